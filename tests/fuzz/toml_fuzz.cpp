// Run files. Each either is a usage error with a position, or gives a config that survives writing
// and reading again.
//
// Build with: src/base/error.cpp src/base/file.cpp src/base/nearest.cpp src/config/*.cpp -lfmt
#include <string>
#include <string_view>

#include "base/error.h"
#include "config/load.h"
#include "fuzz.h"

namespace octavo {
namespace {

void read(std::string_view text) {
    RunConfig config;
    try {
        config = parse_config(text, "fuzz");
    } catch (const Error& error) {
        require(error.kind() == ErrorKind::usage, "mistakes in run files are usage errors");
        return;
    }
    require(parse_config(to_toml(config), "again") == config, "the config survives writing");
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    octavo::read({reinterpret_cast<const char*>(data), size});
    return 0;
}
