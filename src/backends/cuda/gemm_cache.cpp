#include "backends/cuda/gemm_cache.h"

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "backends/cuda/device.h"
#include "base/error.h"

namespace octavo::cuda {
namespace {

constexpr std::size_t kHexDigits = 2 * sizeof(cublasLtMatmulAlgo_t);

std::string to_hex(const cublasLtMatmulAlgo_t& algorithm) {
    std::string hex;
    unsigned char bytes[sizeof(algorithm)];
    std::memcpy(bytes, &algorithm, sizeof(algorithm));
    for (const unsigned char b : bytes) hex += fmt::format("{:02x}", b);
    return hex;
}

std::optional<cublasLtMatmulAlgo_t> from_hex(const std::string& hex) {
    if (hex.size() != kHexDigits) return std::nullopt;
    unsigned char bytes[sizeof(cublasLtMatmulAlgo_t)];
    for (std::size_t i = 0; i < sizeof(bytes); ++i) {
        const std::string digits = hex.substr(2 * i, 2);
        char* end = nullptr;
        bytes[i] = static_cast<unsigned char>(std::strtoul(digits.c_str(), &end, 16));
        if (end != digits.c_str() + 2) return std::nullopt;
    }
    cublasLtMatmulAlgo_t algorithm;
    std::memcpy(&algorithm, bytes, sizeof(algorithm));
    return algorithm;
}

std::filesystem::path cache_folder() {
    if (const char* folder = std::getenv("OCTAVO_CACHE")) return folder;
    if (const char* folder = std::getenv("XDG_CACHE_HOME")) {
        return std::filesystem::path(folder) / "octavo";
    }
    const char* home = std::getenv("HOME");
    return std::filesystem::path(home ? home : "/tmp") / ".cache/octavo";
}

std::filesystem::path cache_file() {
    std::string gpu = device().name();
    for (char& c : gpu) {
        if (c == ' ' || c == '/') c = '-';
    }
    return cache_folder() / fmt::format("gemm-{}-cublas-{}.txt", gpu, cublasLtGetVersion());
}

}  // namespace

// A line: the algorithm in hexadecimal, a space, the product.
GemmCache::GemmCache(std::filesystem::path file) : file_(std::move(file)) {
    std::ifstream in(file_);
    for (std::string line; std::getline(in, line);) {
        if (line.size() < kHexDigits + 2) continue;
        if (const auto algorithm = from_hex(line.substr(0, kHexDigits))) {
            algorithms_[line.substr(kHexDigits + 1)] = *algorithm;
        }
    }
}

std::optional<cublasLtMatmulAlgo_t> GemmCache::find(const std::string& product) const {
    const auto it = algorithms_.find(product);
    if (it == algorithms_.end()) return std::nullopt;
    return it->second;
}

void GemmCache::insert(const std::string& product, const cublasLtMatmulAlgo_t& algorithm) {
    algorithms_[product] = algorithm;
    std::error_code ignored;
    std::filesystem::create_directories(file_.parent_path(), ignored);
    // One write of one line, so that processes that share the file do not mix theirs.
    std::ofstream(file_, std::ios::app) << to_hex(algorithm) + " " + product + "\n";
}

GemmCache& gemm_cache() {
    static GemmCache cache(cache_file());
    return cache;
}

}  // namespace octavo::cuda
