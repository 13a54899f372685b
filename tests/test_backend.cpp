#include "test_backend.h"

#include <cstdlib>
#include <string_view>

#include "backends/cpu/cpu.h"
#ifdef OCTAVO_CUDA
#include "backends/cuda/cuda.h"
#endif

namespace octavo::test {

bool on_cuda() {
    const char* name = std::getenv("OCTAVO_TEST_BACKEND");
    return name && std::string_view(name) == "cuda";
}

void skip_without_backend() {
    if (!on_cuda()) return;
#ifdef OCTAVO_CUDA
    if (const auto why_not = why_no_cuda()) {
        fmt::print("skipped: {}\n", *why_not);
        std::exit(77);
    }
#else
    fail("OCTAVO_TEST_BACKEND = cuda, but this build has no such backend");
#endif
}

std::unique_ptr<Backend> make_test_backend() {
    skip_without_backend();
#ifdef OCTAVO_CUDA
    if (on_cuda()) return make_cuda_backend({.deterministic = true});
#endif
    return make_cpu_backend();
}

Backend& backend() {
    static const std::unique_ptr<Backend> backend = make_test_backend();
    return *backend;
}

}  // namespace octavo::test
