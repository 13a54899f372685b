#include "backends/cpu/matmul.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "backends/cpu/onednn.h"
#include "backends/matmul_biased.h"
#include "backends/matmul_cast.h"
#include "backends/matmul_grouped.h"
#include "base/convert.h"

namespace octavo::cpu {
namespace {

GemmDesc describe(const NodeView& node, Dtype operands) {
    const auto& op = std::get<Matmul>(node.op);
    const MatmulExtents e = matmul_extents(node);
    return {
        .m = e.m,
        .n = e.n,
        .k = e.k,
        .trans_a = op.trans_a,
        .trans_b = op.trans_b,
        .in = operands,
        .out = operands == Dtype::bf16 && op.out == Dtype::bf16 ? Dtype::bf16 : Dtype::f32,
        .scaled =
            op.exponent != 0 || node.in[0].scaling != kUnscaled || node.in[1].scaling != kUnscaled,
        .accumulate = op.accumulate,
    };
}

Refusal reject_onednn(const NodeView& node, Dtype operands) {
    if (const Refusal fine = reject_fine_scales(node)) return fine;
    if (node.in[0].dtype == Dtype::f64 || node.in[1].dtype == Dtype::f64 ||
        node.out[0].dtype == Dtype::f64) {
        return "f64";
    }
    const GemmDesc gemm = describe(node, operands);
    if (gemm.m == 0 || gemm.n == 0 || gemm.k == 0) return "no elements";
    if (gemm_implementation(gemm).empty()) {
        return fmt::format("oneDNN has only reference loops for this product with {}",
                           instruction_set());
    }
    return std::nullopt;
}

// A power of two moves no bit of a significand, and these stay clear of the ends of bf16 and f32,
// to which narrower formats are converted.
bool folds_exactly(float scale) {
    int exponent = 0;
    return std::frexp(scale, &exponent) == 0.5f && std::abs(exponent) < 100;
}

// oneDNN multiplies operands of one dtype, and adds to C in place. Everything else is conversion:
// into scratch before the product, out of it afterwards. oneDNN 2.6 leaves the matrix units for
// vector ones, several times slower, when it has to scale the result; so a scale that is a power of
// two, as recipes prefer them, goes into the conversion of an operand if one is converted.
Prepared prepare_onednn(const NodeView& node, Dtype operands) {
    const GemmDesc gemm = describe(node, operands);
    const Gemm product(gemm);
    GemmDesc unscaled = gemm;
    unscaled.scaled = false;
    const int folded = node.in[0].dtype != operands ? 0 : node.in[1].dtype != operands ? 1 : -1;
    const Gemm plain_product = gemm.scaled ? Gemm(unscaled) : product;
    const int exponent = std::get<Matmul>(node.op).exponent;
    ScratchCounter scratch;
    std::array<std::int64_t, 2> converted{};
    for (std::size_t i = 0; i < 2; ++i) {
        if (node.in[i].dtype == operands) continue;
        converted[i] = scratch.reserve(node.in[i].shape.elements() *
                                       static_cast<std::int64_t>(size_of(operands)));
    }
    const bool converts_out = node.out[0].dtype != gemm.out;
    const std::int64_t n = node.out[0].shape.elements();
    const std::int64_t c_offset =
        converts_out ? scratch.reserve(n * static_cast<std::int64_t>(size_of(gemm.out))) : 0;
    const std::int64_t pad =
        scratch.reserve(std::max(product.scratch_bytes(), plain_product.scratch_bytes()));

    auto run = [=](const KernelCall& call) {
        const float scale = product_scale(call, exponent);
        const bool fold = gemm.scaled && folded >= 0 && folds_exactly(scale);
        const auto operand = [&](int i) -> const void* {
            const TensorRef& t = call.in[static_cast<std::size_t>(i)];
            if (t.type.dtype == operands) return t.data;
            std::byte* to = call.scratch + converted[static_cast<std::size_t>(i)];
            convert_parallel(t.data, t.type.dtype, to, operands, t.type.shape.elements(),
                             fold && i == folded ? scale : 1.0f);
            return to;
        };
        const TensorRef& out = call.out[0];
        void* c = converts_out ? call.scratch + c_offset : out.data;
        if (gemm.accumulate && call.in[2].data != c) {
            convert_parallel(call.in[2].data, out.type.dtype, c, gemm.out, n);
        }
        (fold ? plain_product : product)(operand(0), operand(1), c, scale, call.scratch + pad);
        if (converts_out) convert_parallel(c, gemm.out, out.data, out.type.dtype, n);
    };
    return {run, scratch.bytes()};
}

// FP8 codes are exact in bf16, so their products are exact and only the sums round.
Refusal reject_bf16(const NodeView& node) {
    for (const Type& t : node.in.first(2)) {
        if (t.dtype != Dtype::bf16 && !is_fp8(t.dtype)) {
            return fmt::format("an operand is {}, which bf16 does not hold", name(t.dtype));
        }
    }
    if (!has_bf16_products()) {
        return fmt::format("needs AVX512_BF16 or AMX, the processor has {}", instruction_set());
    }
    return reject_onednn(node, Dtype::bf16);
}

Refusal reject_f32(const NodeView& node) { return reject_onednn(node, Dtype::f32); }

// For one product of two matrices, without a bias.
template <Refusal (*reject)(const NodeView&)>
Refusal plain(const NodeView& node) {
    return ungrouped<unbiased<reject>>(node);
}

// Made of other products.
template <Products kind>
constexpr Kernel kComposed[] = {
    {"cast", reject_matmul_cast,
     [](const NodeView& node) { return prepare_matmul_cast(kernel_registry(kind), node); }},
    {"biased", reject_biased,
     [](const NodeView& node) { return prepare_matmul_biased(kernel_registry(kind), node); }},
    {"grouped", reject_ungrouped,
     [](const NodeView& node) { return prepare_matmul_grouped(node, kind); }},
};
constexpr Kernel kBlocks{"blocks", plain<reject_blocks>, prepare_blocks};
constexpr Kernel kReference{"reference", plain<reject_fine_scales>, prepare_matmul_reference};
constexpr Kernel kFast[] = {
    {"dequantised", plain<reject_dequantised>, prepare_dequantised},
    kBlocks,
    {"gemv", plain<reject_gemv>, prepare_gemv},
    {"onednn_bf16", plain<reject_bf16>,
     [](const NodeView& node) { return prepare_onednn(node, Dtype::bf16); }},
    {"onednn_f32", plain<reject_f32>,
     [](const NodeView& node) { return prepare_onednn(node, Dtype::f32); }},
    kReference,
};

}  // namespace

MatmulExtents matmul_extents(const NodeView& node) {
    const auto& op = std::get<Matmul>(node.op);
    const Shape &a = node.in[0].shape, &b = node.in[1].shape;
    return {.m = op.trans_a ? a.last() : a.rows(),
            .n = op.trans_b ? b.rows() : b.last(),
            .k = op.trans_b ? b.last() : b.rows()};
}

void convert_parallel(const void* from, Dtype from_dtype, void* to, Dtype to_dtype, std::int64_t n,
                      float scale) {
    const auto from_size = static_cast<std::int64_t>(size_of(from_dtype));
    const auto to_size = static_cast<std::int64_t>(size_of(to_dtype));
    parallel_for(n, row_grain(1), [&](std::int64_t begin, std::int64_t end) {
        const std::byte* first = static_cast<const std::byte*>(from) + begin * from_size;
        std::byte* out = static_cast<std::byte*>(to) + begin * to_size;
        if (scale == 1.0f) {
            convert(first, from_dtype, out, to_dtype, end - begin);
        } else {
            dequantise(first, from_dtype, scale, out, to_dtype, end - begin);
        }
    });
}

void register_matmul(KernelRegistry& registry) {
    for (const Kernel& kernel : kComposed<Products::fast>) registry.add<Matmul>(kernel);
    for (const Kernel& kernel : kFast) registry.add<Matmul>(kernel);
}

void register_matmul_by_rows(KernelRegistry& registry) {
    for (const Kernel& kernel : kComposed<Products::by_rows>) registry.add<Matmul>(kernel);
    for (const Kernel& kernel : {kBlocks, kReference}) registry.add<Matmul>(kernel);
}

}  // namespace octavo::cpu
