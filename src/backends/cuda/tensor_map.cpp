#include "backends/cuda/tensor_map.h"

#include <fmt/ranges.h>

#include <array>

#include "backends/cuda/device.h"
#include "base/error.h"

namespace octavo::cuda {
namespace {

// The driver's function, found at run time: Octavo does not link against the driver.
auto encode_tiled() {
    static const auto function = [] {
        void* entry = nullptr;
        cudaDriverEntryPointQueryResult found{};
        expect(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                cudaEnableDefault, &found),
               "cudaGetDriverEntryPointByVersion");
        check(found == cudaDriverEntryPointSuccess,
              "CUDA: the driver has no cuTensorMapEncodeTiled.\n  Update it to version 525 or "
              "later.");
        return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
    }();
    return function;
}

}  // namespace

CUtensorMap tensor_map(const void* data, Dtype dtype, std::span<const std::int64_t> extents,
                       int box_rows) {
    constexpr std::size_t kMaxRank = 3;
    check(extents.size() == 2 || extents.size() == kMaxRank,
          "CUDA: a tensor map has two or three extents, not {}.", extents.size());
    const auto bytes = static_cast<cuuint64_t>(size_of(dtype));
    const auto type = dtype == Dtype::f32    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
                      : dtype == Dtype::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                             : CU_TENSOR_MAP_DATA_TYPE_UINT8;
    std::array<cuuint64_t, kMaxRank> size{}, pitch{};  // bytes between rows, planes
    cuuint64_t dense = bytes;
    for (std::size_t i = 0; i < extents.size(); ++i) {
        size[i] = static_cast<cuuint64_t>(extents[i]);
        pitch[i] = dense *= size[i];
    }
    const std::array<cuuint32_t, kMaxRank> box{static_cast<cuuint32_t>(128 / bytes),
                                               static_cast<cuuint32_t>(box_rows), 1};
    constexpr std::array<cuuint32_t, kMaxRank> kStep{1, 1, 1};
    CUtensorMap map;
    const CUresult status =
        encode_tiled()(&map, type, static_cast<cuuint32_t>(extents.size()), const_cast<void*>(data),
                       size.data(), pitch.data(), box.data(), kStep.data(),
                       CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                       CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    check(status == CUDA_SUCCESS, "CUDA: no tensor map for {} ({}), fastest first: CUresult {}",
          name(dtype), fmt::join(extents, ", "), static_cast<int>(status));
    return map;
}

}  // namespace octavo::cuda
