#include "backends/cuda/gemm.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "backends/cuda/device.h"
#include "backends/cuda/gemm_cache.h"
#include "base/error.h"

namespace octavo::cuda {
namespace {

constexpr std::size_t kMaxWorkspace = std::size_t{64} << 20;
constexpr int kCandidates = 8;
constexpr int kTimedCalls = 5;
// Stands in for the addresses of scales and biases while algorithms are looked for.
const void* const kAligned = reinterpret_cast<const void*>(std::uintptr_t{256});

cudaDataType_t cuda_type(Dtype d) {
    switch (d) {
        case Dtype::f64:
            return CUDA_R_64F;
        case Dtype::f32:
            return CUDA_R_32F;
        case Dtype::bf16:
            return CUDA_R_16BF;
        case Dtype::f16:
            return CUDA_R_16F;
        case Dtype::e4m3:
            return CUDA_R_8F_E4M3;
        case Dtype::e5m2:
            return CUDA_R_8F_E5M2;
        default:
            fail("gemm: no cuBLASLt type for {}", name(d));
    }
}

std::string key(const GemmDesc& g) {
    std::string text =
        fmt::format("{}{}x{}{}>{}{} {} {} {}{}{}{}", name(g.a), g.trans_a ? "T" : "", name(g.b),
                    g.trans_b ? "T" : "", name(g.c), g.accumulate ? "+" : "", g.m, g.n, g.k,
                    g.fast_accumulation ? " fast" : "", g.device_factor ? " factor" : "",
                    g.bias ? " bias" : "");
    if (g.stride_a || g.stride_b || g.stride_c) {
        text += fmt::format(" strides {} {} {}", g.row_a(), g.row_b(), g.row_c());
    }
    if (g.a_scales != Granularity::tensor || g.b_scales != Granularity::tensor) {
        text +=
            fmt::format(" {}x{}", to_string(Scaling{g.a_scales}), to_string(Scaling{g.b_scales}));
    }
    return text;
}

cublasLtMatmulMatrixScale_t scale_mode(Granularity g) {
    switch (g) {
        case Granularity::row:
            return CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
        case Granularity::block_1x128:
            return CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
        case Granularity::block_128x128:
            return CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
        default:
            return CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
    }
}

// An operand of `lines` along K has this many scales at most.
std::int64_t scales_of(Dtype dtype, Granularity g, std::int64_t lines, std::int64_t k) {
    return is_fp8(dtype) ? scale_count({dtype, {lines, k}, {g}}) : 0;
}

class Layout {
  public:
    Layout(Dtype dtype, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
        expect(
            cublasLtMatrixLayoutCreate(&layout_, cuda_type(dtype), static_cast<std::uint64_t>(rows),
                                       static_cast<std::uint64_t>(columns), stride),
            "cublasLtMatrixLayoutCreate");
    }
    ~Layout() { cublasLtMatrixLayoutDestroy(layout_); }
    Layout(const Layout&) = delete;
    Layout& operator=(const Layout&) = delete;
    operator cublasLtMatrixLayout_t() const { return layout_; }

  private:
    cublasLtMatrixLayout_t layout_ = nullptr;
};

// Device memory for the time of a measurement; empty if there is not enough.
class Temporary {
  public:
    explicit Temporary(std::int64_t bytes) {
        if (cudaMalloc(&data_, static_cast<std::size_t>(std::max<std::int64_t>(bytes, 16))) !=
            cudaSuccess) {
            cudaGetLastError();
            data_ = nullptr;
        }
    }
    ~Temporary() { cudaFree(data_); }
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;
    void* data() const { return data_; }

  private:
    void* data_ = nullptr;
};

}  // namespace

// cuBLASLt thinks in columns. Our row-major c = op(a) op(b) is its c^T = op(b)^T op(a)^T, so its
// first operand is our b, and a matrix that we store row by row is transposed already.
struct Gemm::Impl {
    GemmDesc desc;
    cublasLtMatmulDesc_t matmul = nullptr;
    Layout first, second, source, result;  // source: of acc, in 16 bits where codes are written
    cublasLtMatmulAlgo_t algorithm{};
    std::size_t workspace = 0;

    explicit Impl(const GemmDesc& g)
        : desc(g),
          first(g.b, g.trans_b ? g.k : g.n, g.rows_b(), g.row_b()),
          second(g.a, g.trans_a ? g.m : g.k, g.rows_a(), g.row_a()),
          source(is_fp8(g.c) ? Dtype::bf16 : g.c, g.n, g.m, g.row_c()),
          result(g.c, g.n, g.m, g.row_c()) {
        const bool f64 = g.a == Dtype::f64;
        expect(cublasLtMatmulDescCreate(&matmul, f64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                        f64 ? CUDA_R_64F : CUDA_R_32F),
               "cublasLtMatmulDescCreate");
        set(CUBLASLT_MATMUL_DESC_TRANSA, g.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(CUBLASLT_MATMUL_DESC_TRANSB, g.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
        if (g.device_factor) {
            set(CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_DEVICE);
        }
        if (is_fp8(g.a)) {
            set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{g.fast_accumulation});
        }
        if (scaled()) {
            set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, scale_mode(g.b_scales));
            set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, scale_mode(g.a_scales));
            const auto* const scales = static_cast<const float*>(kAligned);
            set_scales(scales, scales);
        }
        if (g.bias) {
            set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
            set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, cuda_type(g.c));
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, kAligned);
        }
    }
    ~Impl() { cublasLtMatmulDescDestroy(matmul); }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    bool scaled() const { return is_fp8(desc.a) && desc.a_scales != Granularity::none; }

    template <class T>
    void set(cublasLtMatmulDescAttributes_t attribute, const T& value) const {
        expect(cublasLtMatmulDescSetAttribute(matmul, attribute, &value, sizeof(value)),
               "cublasLtMatmulDescSetAttribute");
    }
    void set_scales(const float* a, const float* b) const {
        set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, b);
        set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, a);
    }

    cublasStatus_t call(const cublasLtMatmulAlgo_t& algo, const GemmOperands& in, void* c,
                        const void* alpha_beta, void* pad, std::size_t pad_bytes) const {
        if (desc.bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, in.bias);
        // The same numbers in both compute types; beta stands after alpha.
        const std::array<float, 2> f32{desc.factor, desc.accumulate ? 1.0f : 0.0f};
        const std::array<double, 2> f64{desc.factor, desc.accumulate ? 1.0 : 0.0};
        const bool wide = desc.a == Dtype::f64;
        const void* host = wide ? static_cast<const void*>(f64.data()) : f32.data();
        const auto* alpha = static_cast<const std::byte*>(desc.device_factor ? alpha_beta : host);
        // In place only where both have one layout; without an accumulator codes have no source.
        const void* acc = in.acc || is_fp8(desc.c) ? in.acc : c;
        return cublasLtMatmul(device().blas(), matmul, alpha, in.b, first, in.a, second,
                              alpha + (wide ? sizeof(double) : sizeof(float)), acc, source, c,
                              result, &algo, pad, pad_bytes, stream());
    }

    void choose_algorithm() {
        const std::string name = key(desc);
        if (const auto cached = gemm_cache().find(name)) {
            cublasLtMatmulHeuristicResult_t check{};
            if (cublasLtMatmulAlgoCheck(device().blas(), matmul, first, second, source, result,
                                        &*cached, &check) == CUBLAS_STATUS_SUCCESS &&
                check.workspaceSize <= kMaxWorkspace) {
                algorithm = *cached;
                workspace = check.workspaceSize;
                return;
            }
        }
        const std::vector<cublasLtMatmulHeuristicResult_t> found = candidates();
        check(!found.empty(), "gemm: cuBLASLt has no algorithm for {}", name);
        const std::size_t best = fastest(found);
        algorithm = found[best].algo;
        workspace = found[best].workspaceSize;
        gemm_cache().insert(name, algorithm);
    }

    std::vector<cublasLtMatmulHeuristicResult_t> candidates() const {
        cublasLtMatmulPreference_t preference = nullptr;
        expect(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &kMaxWorkspace, sizeof(kMaxWorkspace));
        // Partial sums in f32 in a workspace are added in a fixed order. Those added in place are
        // not, and those in the result's type round.
        const std::uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                             &schemes, sizeof(schemes));
        std::vector<cublasLtMatmulHeuristicResult_t> found(kCandidates);
        int count = 0;
        const cublasStatus_t status =
            cublasLtMatmulAlgoGetHeuristic(device().blas(), matmul, first, second, source, result,
                                           preference, kCandidates, found.data(), &count);
        cublasLtMatmulPreferenceDestroy(preference);
        found.resize(status == CUBLAS_STATUS_SUCCESS ? static_cast<std::size_t>(count) : 0);
        std::erase_if(found, [](const auto& r) { return r.state != CUBLAS_STATUS_SUCCESS; });
        return found;
    }

    // cuBLASLt's own order of preference where there is no memory to time in.
    std::size_t fastest(const std::vector<cublasLtMatmulHeuristicResult_t>& found) const {
        if (found.size() == 1) return 0;
        const auto bytes = [](std::int64_t n, Dtype d) {
            return n * static_cast<std::int64_t>(size_of(d));
        };
        const std::int64_t a_size = desc.rows_a() * desc.row_a(),
                           b_size = desc.rows_b() * desc.row_b(), c_size = desc.m * desc.row_c();
        const std::int64_t factor_count =
            std::max({std::int64_t{64}, scales_of(desc.a, desc.a_scales, desc.m, desc.k),
                      scales_of(desc.b, desc.b_scales, desc.n, desc.k)});
        const Temporary a(bytes(a_size, desc.a)), b(bytes(b_size, desc.b)),
            c(bytes(c_size, desc.c)), bias(bytes(desc.n, desc.c)), pad(kMaxWorkspace),
            factors(factor_count * 4);
        for (const Temporary* t : {&a, &b, &c, &bias, &pad, &factors}) {
            if (!t->data()) return 0;
        }
        fill_for_timing(a.data(), desc.a, a_size);
        fill_for_timing(b.data(), desc.b, b_size);
        fill_for_timing(c.data(), desc.c, c_size);
        fill_for_timing(bias.data(), desc.c, desc.n);
        if (desc.a == Dtype::f64) {
            fill_for_timing(factors.data(), Dtype::f64, 16);
        } else {
            fill_for_timing(factors.data(), Dtype::f32, factor_count);
        }
        if (scaled()) {
            set_scales(static_cast<const float*>(factors.data()),
                       static_cast<const float*>(factors.data()));
        }
        cudaEvent_t begin = nullptr, end = nullptr;
        expect(cudaEventCreate(&begin), "cudaEventCreate");
        expect(cudaEventCreate(&end), "cudaEventCreate");
        std::size_t best = 0;
        float best_ms = std::numeric_limits<float>::max();
        for (std::size_t i = 0; i < found.size(); ++i) {
            const auto once = [&] {
                return call(found[i].algo, {a.data(), b.data(), bias.data(), c.data()}, c.data(),
                            factors.data(), pad.data(), kMaxWorkspace);
            };
            if (once() != CUBLAS_STATUS_SUCCESS) continue;
            cudaEventRecord(begin, stream());
            for (int t = 0; t < kTimedCalls; ++t) once();
            cudaEventRecord(end, stream());
            expect(cudaEventSynchronize(end), "a product that was being timed");
            float ms = 0;
            cudaEventElapsedTime(&ms, begin, end);
            if (ms < best_ms) {
                best_ms = ms;
                best = i;
            }
        }
        cudaEventDestroy(begin);
        cudaEventDestroy(end);
        return best;
    }
};

bool Gemm::exists(const GemmDesc& desc) { return !Impl(desc).candidates().empty(); }

Gemm::Gemm(const GemmDesc& desc) : impl_(std::make_unique<Impl>(desc)) {
    impl_->choose_algorithm();
}
Gemm::~Gemm() = default;
Gemm::Gemm(Gemm&&) noexcept = default;
Gemm& Gemm::operator=(Gemm&&) noexcept = default;

std::int64_t Gemm::workspace_bytes() const { return static_cast<std::int64_t>(impl_->workspace); }

void Gemm::operator()(const GemmOperands& in, void* c, const GemmScales& scales,
                      std::byte* workspace) const {
    if (impl_->scaled()) impl_->set_scales(scales.a, scales.b);
    expect(impl_->call(impl_->algorithm, in, c, scales.alpha_beta, workspace, impl_->workspace),
           key(impl_->desc));
}

}  // namespace octavo::cuda
