// The reference models of tests/fixtures.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace octavo::test {

// Where they were when the tests were built, or where OCTAVO_FIXTURES says they are now.
inline std::filesystem::path fixture(const std::string& family) {
    const char* moved = std::getenv("OCTAVO_FIXTURES");
    return std::filesystem::path(moved ? moved : OCTAVO_FIXTURES) / family;
}

template <class T>
std::vector<T> values(const TensorInfo& t) {
    std::vector<T> v(t.bytes.size() / sizeof(T));
    if (!v.empty()) std::memcpy(v.data(), t.bytes.data(), t.bytes.size());
    return v;
}

// |got - want| / |want| in the Frobenius norm.
inline double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
    EXPECT_EQ(got.size(), want.size());
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
        error += std::pow(double{got[i]} - want[i], 2);
        norm += std::pow(double{want[i]}, 2);
    }
    return std::sqrt(error / norm);
}

// A folder of this test's own, removed at its end.
class TemporaryFolder {
  public:
    TemporaryFolder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "octavo-XXXXXX").string();
        path_ = mkdtemp(pattern.data());
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

}  // namespace octavo::test
