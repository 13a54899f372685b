# Every library is proved by linking and running a few lines against it, so that a broken install
# fails here, with the name of the Debian package, and not in the middle of the build. What the build
# can do without is OPTIONAL: there is no target then.
include(CheckCXXSourceRuns)
find_package(PkgConfig REQUIRED)

function(octavo_dependency target package source)
    cmake_parse_arguments(DEP "OPTIONAL" "" "LIBRARIES;DEFINITIONS" ${ARGN})
    set(CMAKE_REQUIRED_LIBRARIES ${DEP_LIBRARIES})
    list(TRANSFORM DEP_DEFINITIONS PREPEND -D OUTPUT_VARIABLE CMAKE_REQUIRED_DEFINITIONS)
    set(CMAKE_REQUIRED_FLAGS "-std=c++20")
    set(CMAKE_REQUIRED_QUIET ON)
    check_cxx_source_runs("${source}" OCTAVO_HAVE_${target})
    if(DEP_OPTIONAL AND NOT OCTAVO_HAVE_${target})
        message(STATUS "Not found: ${target} (${package})")
        return()
    elseif(NOT OCTAVO_HAVE_${target})
        message(FATAL_ERROR
            "Octavo needs ${target}: a small program that uses it did not build and run.\n"
            "  Install it with: apt-get install ${package}   (or run scripts/setup.sh)\n"
            "  The compiler's words are in ${CMAKE_BINARY_DIR}/CMakeFiles/CMakeError.log")
    endif()
    add_library(octavo_${target} INTERFACE)
    target_link_libraries(octavo_${target} INTERFACE ${DEP_LIBRARIES})
    target_compile_definitions(octavo_${target} INTERFACE ${DEP_DEFINITIONS})
    message(STATUS "Found ${target} (${package})")
endfunction()

find_package(OpenMP REQUIRED)
find_package(Threads REQUIRED)

octavo_dependency(fmt libfmt-dev [[
    #include <fmt/core.h>
    int main() { return fmt::format("{}", 42) == "42" ? 0 : 1; }]]
    LIBRARIES fmt)
octavo_dependency(dnnl libdnnl-dev [[
    #include <dnnl.h>
    int main() { float a = 2, b = 3, c = 0;
        return dnnl_sgemm('N', 'N', 1, 1, 1, 1.f, &a, 1, &b, 1, 0.f, &c, 1) || c != 6.f; }]]
    LIBRARIES dnnl)
octavo_dependency(json nlohmann-json3-dev [[
    #include <nlohmann/json.hpp>
    int main() { return nlohmann::json::parse("[7]")[0] == 7 ? 0 : 1; }]])
octavo_dependency(tomlplusplus libtomlplusplus-dev [[
    #include <toml++/toml.h>
    int main() { return toml::parse("a = 7")["a"].value_or(0) == 7 ? 0 : 1; }]])
octavo_dependency(cli11 libcli11-dev [[
    #include <CLI/CLI.hpp>
    int main() { CLI::App app; return app.get_subcommands().empty() ? 0 : 1; }]])
octavo_dependency(zstd libzstd-dev [[
    #include <zstd.h>
    int main() { return ZSTD_versionNumber() > 0 ? 0 : 1; }]]
    LIBRARIES zstd)
octavo_dependency(xxhash libxxhash-dev [[
    #include <xxhash.h>
    int main() { return XXH64("", 0, 0) == 0xef46db3751d8e999ULL ? 0 : 1; }]]
    LIBRARIES xxhash)
octavo_dependency(pcre2 libpcre2-dev [[
    #define PCRE2_CODE_UNIT_WIDTH 8
    #include <pcre2.h>
    int main() { int jit = 0; return pcre2_config(PCRE2_CONFIG_JIT, &jit) < 0 || jit != 1; }]]
    LIBRARIES pcre2-8)
octavo_dependency(utf8proc libutf8proc-dev [[
    #include <utf8proc.h>
    int main() { return utf8proc_category(0x41) == UTF8PROC_CATEGORY_LU ? 0 : 1; }]]
    LIBRARIES utf8proc)
# Debian's library is compiled with TLS and compression, which change the layout of its classes.
octavo_dependency(httplib libcpp-httplib-dev [[
    #include <httplib.h>
    int main() { httplib::Server s; return s.bind_to_any_port("127.0.0.1") > 0 ? 0 : 1; }]]
    LIBRARIES cpp-httplib ssl crypto Threads::Threads OPTIONAL
    DEFINITIONS CPPHTTPLIB_OPENSSL_SUPPORT CPPHTTPLIB_ZLIB_SUPPORT CPPHTTPLIB_BROTLI_SUPPORT)
if(OCTAVO_TESTS)
    find_package(GTest REQUIRED)
endif()
