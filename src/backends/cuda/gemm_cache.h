// Algorithms of matrix products that were timed before, kept in a file per GPU and library version:
// $OCTAVO_CACHE, else $XDG_CACHE_HOME/octavo, else ~/.cache/octavo. A file that cannot be read or
// written costs time, never correctness.
#pragma once

#include <cublasLt.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace octavo::cuda {

class GemmCache {
  public:
    explicit GemmCache(std::filesystem::path file);

    std::optional<cublasLtMatmulAlgo_t> find(const std::string& product) const;
    // Also appends a line to the file.
    void insert(const std::string& product, const cublasLtMatmulAlgo_t&);

  private:
    std::filesystem::path file_;
    std::map<std::string, cublasLtMatmulAlgo_t> algorithms_;
};

// Of the GPU in use.
GemmCache& gemm_cache();

}  // namespace octavo::cuda
