# make build | demo | test | format | tidy | fuzz
#
# Everything else is CMake: cmake --preset release && cmake --build build/release

.PHONY: build demo test format check-format tidy fuzz clean

build:
	scripts/build.sh release

demo:
	scripts/demo.sh

test:
	scripts/test.sh

format:
	scripts/format.sh --write

check-format:
	scripts/format.sh

tidy:
	scripts/tidy.sh

fuzz:
	scripts/fuzz.sh

clean:
	rm -rf build
