# One interface target carries the flags that every Octavo target shares.
add_library(octavo_options INTERFACE)
target_include_directories(octavo_options INTERFACE ${PROJECT_SOURCE_DIR}/src)
target_compile_options(octavo_options INTERFACE $<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror
    # Kernels must give the same bits whatever the compiler inlines: no contraction into FMA behind
    # our back, but nothing that keeps loops from vectorising either.
    -ffp-contract=off -fno-math-errno -fno-trapping-math
    -fopenmp-simd>)

if(OCTAVO_NATIVE)
    target_compile_options(octavo_options INTERFACE
        $<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:-march=native>)
endif()

if(OCTAVO_SANITIZE)
    target_compile_options(octavo_options INTERFACE
        -fsanitize=${OCTAVO_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
        # The checks that are compiled in confuse it: it warns about std::regex itself.
        -Wno-maybe-uninitialized)
    target_link_options(octavo_options INTERFACE -fsanitize=${OCTAVO_SANITIZE})
endif()
