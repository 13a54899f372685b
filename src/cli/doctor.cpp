// octavo doctor: what this machine and this build offer.
#include <dnnl.h>
#include <fmt/core.h>
#include <unistd.h>
#include <utf8proc.h>
#include <xxhash.h>
#include <zstd.h>

#include <CLI/Version.hpp>
#include <nlohmann/detail/abi_macros.hpp>

#include "base/parallel.h"
#include "base/process.h"
#include "base/version.h"
#include "cli/device.h"
#include "cli/machine.h"
#include "cli/verbs.h"
#include "config/toml_file.h"
#include "http/http.h"
#include "runtime/gemm_rate.h"
#include "runtime/roofline.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace octavo {
namespace {

void row(const char* name, const std::string& value) { fmt::print("  {:<16} {}\n", name, value); }

std::string dnnl_text() {
    const dnnl_version_t& v = *dnnl_version();
    const char* runtime = v.cpu_runtime == DNNL_RUNTIME_OMP   ? "OpenMP"
                          : v.cpu_runtime == DNNL_RUNTIME_TBB ? "TBB"
                          : v.cpu_runtime == DNNL_RUNTIME_SEQ ? "one thread"
                                                              : "other threads";
    return fmt::format("{}.{}.{} ({})", v.major, v.minor, v.patch, runtime);
}

int run_doctor(const Args&) {
    fmt::print("Machine\n");
    row("processor", processor_name());
    row("threads",
        fmt::format("{} of {} processors", thread_count(), sysconf(_SC_NPROCESSORS_ONLN)));
    for (const ProcessorFeature& feature : processor_features()) {
        row(feature.name, feature.present ? "yes" : fmt::format("no: {}", feature.without));
    }
    const auto memory = machine_memory();
    row("memory",
        fmt::format("{:.1f} GB, {:.1f} GB available", static_cast<double>(memory.total) * 1e-9,
                    static_cast<double>(memory.available) * 1e-9));

    for (const auto& [name, value] : gpu_facts()) row(name.c_str(), value);
    const auto backend = open_backend({});
    if (backend->name() != "cpu") {
        row("GPU copies",
            fmt::format("{:.0f} GB/s, read plus written", measure_copy_rate(*backend) * 1e-9));
    }

    fmt::print("Build\n");
    row("octavo", kVersion);
    row("compiler", "g++ " __VERSION__);
    row("fmt",
        fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100));
    row("oneDNN", dnnl_text());
    row("nlohmann/json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR,
                                     NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH));
    row("toml++", toml_library_version());
    row("CLI11", CLI11_VERSION);
    row("zstd", ZSTD_versionString());
    const unsigned xxhash = XXH_versionNumber();
    row("xxhash", fmt::format("{}.{}.{}", xxhash / 10000, xxhash / 100 % 100, xxhash % 100));

    char pcre2[64] = {};
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    row("PCRE2", pcre2);
    row("HTTP",
        http_library().value_or("none: octavo serve needs libcpp-httplib-dev (scripts/setup.sh)"));
    row("utf8proc", fmt::format("{} (Unicode {})", utf8proc_version(), utf8proc_unicode_version()));

    const std::int64_t n = backend->yardstick();
    fmt::print("Matrix products, {} x {} x {}\n", n, n, n);
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::e4m3}) {
        GemmMeasurement product(*backend, plain_product(dtype), n, n, n);
        row(std::string(name(dtype)).c_str(),
            fmt::format("{:.3f} TFLOP/s ({})", product.flops_per_s() * 1e-12, product.kernel()));
    }
    return 0;
}

}  // namespace

Verb doctor_verb() {
    return {.name = "doctor",
            .help = "Shows what this machine and this build offer.",
            .run = run_doctor};
}

}  // namespace octavo
