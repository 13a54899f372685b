#include "backends/cuda/matmul.h"

#include <array>
#include <memory>

#include "backends/cuda/convert.h"
#include "backends/cuda/dequantise.h"
#include "backends/cuda/device.h"
#include "backends/cuda/few_rows_gemm.h"
#include "backends/cuda/gemm.h"
#include "backends/cuda/gemm_kernels.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/matmul_grouped.h"
#include "backends/cuda/moss_gemm.h"
#include "backends/matmul_biased.h"
#include "backends/matmul_cast.h"
#include "backends/matmul_dequantised.h"
#include "backends/matmul_grouped.h"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

GemmDesc describe(const NodeView& node) {
    const auto& op = std::get<Matmul>(node.op);
    const Shape &a = node.in[0].shape, &b = node.in[1].shape;
    return {.m = op.trans_a ? a.last() : a.rows(),
            .n = op.trans_b ? b.rows() : b.last(),
            .k = op.trans_b ? b.last() : b.rows(),
            .trans_a = op.trans_a,
            .trans_b = op.trans_b,
            .a = node.in[0].dtype,
            .b = node.in[1].dtype,
            .c = op.out,
            .bias = op.bias,
            .accumulate = op.accumulate,
            .factor = power_of_two(op.exponent)};
}

// What a product adds to, at `c` or elsewhere. cuBLASLt rounds 16-bit results differently when the
// accumulator lies elsewhere, and where it lies depends on the plan; so who wants the same bits
// from every plan has it copied.
const void* accumulator_for(const KernelCall& call, void* c) {
    const TensorRef& acc = call.in.back();
    if (!device().deterministic()) return acc.data;
    copy(acc.data, c, data_bytes(acc.type));
    return c;
}

// What has an epilogue for a bias is the library's to say.
Refusal reject_bias(const GemmDesc& desc) {
    if (!desc.bias || Gemm::exists(desc)) return std::nullopt;
    return "cuBLASLt adds no bias to this product";
}

const void* bias_of(const GemmDesc& desc, const KernelCall& call) {
    return desc.bias ? call.in[2].data : nullptr;
}

// No products to sum: the result is the accumulator, or zero.
Refusal reject_empty(const NodeView& node) {
    const GemmDesc g = describe(node);
    if (g.m == 0 || g.n == 0 || g.k == 0) return std::nullopt;
    return "there are elements";
}

Prepared prepare_empty(const NodeView&) {
    return {[](const KernelCall& call) {
        const TensorRef& c = call.out[0];
        if (call.in.size() == 3) {
            copy(call.in[2].data, c.data, data_bytes(c.type));
        } else {
            clear(c.data, data_bytes(c.type));
        }
    }};
}

// cuBLASLt scales rows of both operands or of none, so one scale becomes as many as there are rows.
struct RowScales {
    std::int64_t rows = 0;  // 0: the operand has what is needed
    std::int64_t at = 0;    // in scratch

    const float* of(const TensorRef& t, std::byte* scratch) const {
        if (rows == 0) return t.scales();
        auto* const scales = reinterpret_cast<float*>(scratch + at);
        repeat(t.scales(), scales, rows);
        return scales;
    }
};

// One scale beside scales of rows counts as as many.
GemmDesc describe_fp8(const NodeView& node) {
    GemmDesc desc = describe(node);
    const Granularity a = node.in[0].scaling.granularity, b = node.in[1].scaling.granularity;
    const bool rows = a == Granularity::row || b == Granularity::row;
    desc.a_scales = rows ? Granularity::row : a;
    desc.b_scales = rows ? Granularity::row : b;
    // Forward sums are averaged away by what follows; gradients accumulate into weights. Blocks
    // are promoted to f32 anyway, and unscaled codes (arXiv 2407.17353) use all of the format's
    // range.
    const bool blocks = octavo::has_fine_scales(node.in[0]) && !rows;
    desc.fast_accumulation =
        std::get<Matmul>(node.op).kind == MatmulKind::fprop && !blocks && a != Granularity::none;
    return desc;
}

// FP8 on the tensor cores. They read both operands along K only, sixteen codes at a time.
Refusal reject_fp8(const NodeView& node) {
    const GemmDesc g = describe(node);
    if (!reject_empty(node)) return "no elements";
    if (!is_fp8(g.a) || !is_fp8(g.b)) return "an operand is not FP8";
    if (g.a == Dtype::e5m2 && g.b == Dtype::e5m2) return "both operands are e5m2";
    if (g.trans_a || !g.trans_b) return "an operand is not contiguous along K";
    for (const Type& t : node.in.first(2)) {
        if (t.scaling.granularity == Granularity::micro) return "an operand has micro groups";
    }
    if (g.k % 16 != 0 || g.n % 16 != 0 || g.m % 16 != 0) {
        return fmt::format("M, N, K = {}, {}, {} are not all multiples of 16", g.m, g.n, g.k);
    }
    if (g.c == Dtype::f64) return "the result is f64";
    const auto scaled = [](const Type& t) { return t.scaling != kUnscaled; };
    if (scaled(node.in[0]) != scaled(node.in[1])) return "one operand alone has a scale";
    if (is_fp8(g.c) && !Gemm::exists(describe_fp8(node))) {
        return fmt::format("cuBLASLt does not write {} here", name(g.c));
    }
    if (!g.bias) return std::nullopt;
    if (g.c == Dtype::f32) return "cuBLASLt adds no f32 bias to products of FP8";
    return reject_bias(describe_fp8(node));
}

Prepared prepare_fp8(const NodeView& node) {
    const GemmDesc desc = describe_fp8(node);
    ScratchCounter scratch;
    const auto widen_to_rows = [&](const Type& given, Granularity wanted,
                                   std::int64_t rows) -> RowScales {
        if (given.scaling.granularity == wanted) return {};
        return {rows, scratch.reserve(rows * static_cast<std::int64_t>(sizeof(float)))};
    };
    const RowScales a_rows = widen_to_rows(node.in[0], desc.a_scales, desc.m);
    const RowScales b_rows = widen_to_rows(node.in[1], desc.b_scales, desc.n);
    const auto product = std::make_shared<const Gemm>(desc);
    const std::int64_t workspace = scratch.reserve(product->workspace_bytes());
    return {[=](const KernelCall& call) {
                const TensorRef &a = call.in[0], &b = call.in[1];
                void* c = call.out[0].data;
                const void* acc = desc.accumulate ? accumulator_for(call, c) : nullptr;
                (*product)({a.data, b.data, bias_of(desc, call), acc}, c,
                           {a_rows.of(a, call.scratch), b_rows.of(b, call.scratch)},
                           call.scratch + workspace);
            },
            scratch.bytes()};
}

// A few rows as engines have them in FP8.
FewRowsGemm describe_few_rows(const NodeView& node) {
    const GemmDesc g = describe(node);
    return {.m = g.m, .n = g.n, .k = g.k, .out = g.c};
}

Refusal reject_few_rows(const NodeView& node) {
    const auto& op = std::get<Matmul>(node.op);
    const Type &a = node.in[0], &b = node.in[1];
    if (!reject_empty(node)) return "no elements";
    if (a.dtype != Dtype::e4m3 || b.dtype != Dtype::e4m3) return "an operand is not e4m3";
    if (a.scaling.granularity != Granularity::block_1x128 ||
        b.scaling.granularity != Granularity::block_128x128) {
        return "scales are not of 1x128 and 128x128 blocks";
    }
    if (op.trans_a || !op.trans_b) return "an operand is not contiguous along K";
    if (op.exponent != 0) return "the product has a factor";
    return refuse_few_rows(describe_few_rows(node));
}

Prepared prepare_few_rows(const NodeView& node) {
    const FewRowsGemm g = describe_few_rows(node);
    const auto& op = std::get<Matmul>(node.op);
    return {[g, bias = op.bias, accumulate = op.accumulate](const KernelCall& call) {
        const TensorRef &x = call.in[0], &w = call.in[1];
        FewRowsGemm product = g;
        product.x = x.data;
        product.w = w.data;
        product.x_scale = x.scales();
        product.w_scale = w.scales();
        if (bias) product.bias = call.in[2].data;
        if (accumulate) product.acc = call.in.back().data;
        product.y = call.out[0].data;
        few_rows_gemm(product, stream());
    }};
}

// Groups of the first operand, and of the second unless it is a weight, on our own kernel.
Refusal reject_moss(const NodeView& node) {
    const Type &a = node.in[0], &b = node.in[1];
    if (a.scaling.granularity != Granularity::micro) return "the first operand has no micro groups";
    if (b.dtype == Dtype::e5m2) return "the second operand is e5m2";
    const GemmDesc g = describe(node);
    if (g.trans_a || !g.trans_b) return "an operand is not contiguous along K";
    if (g.k % 16 != 0) return fmt::format("K = {} is not a multiple of 16", g.k);
    if (g.m == 0 || g.n == 0 || g.k == 0) return "no elements";
    if (g.c != Dtype::bf16 && g.c != Dtype::f32) return "the result is neither bf16 nor f32";
    return std::nullopt;
}

Prepared prepare_moss(const NodeView& node) {
    const GemmDesc g = describe(node);
    const int group = node.in[0].scaling.group;
    return {[g, group](const KernelCall& call) {
        const TensorRef &a = call.in[0], &b = call.in[1];
        moss_gemm({.m = g.m,
                   .n = g.n,
                   .k = g.k,
                   .group = group,
                   .a_type = g.a,
                   .a = a.data,
                   .b = b.data,
                   .a_groups = a.groups,
                   .b_groups = b.groups,
                   .a_scale = a.scales(),
                   .b_scale = b.scales(),
                   .out_type = g.c,
                   .acc = g.accumulate ? call.in[2].data : nullptr,
                   .out = call.out[0].data},
                  stream());
    }};
}

bool has_fine_scales(const NodeView& node) {
    return octavo::has_fine_scales(node.in[0]) || octavo::has_fine_scales(node.in[1]);
}

Refusal reject_without_fine_scales(const NodeView& node) {
    if (!has_fine_scales(node)) return "no operand has scales per row, block or group";
    return std::nullopt;
}

Refusal reject_dequantised(const NodeView& node) {
    if (const Refusal none = reject_without_fine_scales(node)) return none;
    if (!reject_empty(node)) return "no elements";
    return std::nullopt;
}

Refusal reject_grouped_dequantised(const NodeView& node) {
    if (const Refusal none = reject_ungrouped(node)) return none;
    return reject_without_fine_scales(node);
}

Prepared prepare_dequantised(const NodeView& node) {
    return prepare_matmul_dequantised(
        kernel_registry(), node, [](const TensorRef& x, const TensorRef& y) { dequantise(x, y); });
}

// Everything else in one dtype that holds both operands exactly: FP8 codes in bf16, under the
// product of their scales.
Dtype common_dtype(Dtype a, Dtype b) {
    if (is_fp8(a)) a = Dtype::bf16;
    if (is_fp8(b)) b = Dtype::bf16;
    if (a == b) return a;
    return a == Dtype::f64 || b == Dtype::f64 ? Dtype::f64 : Dtype::f32;
}

Dtype product_dtype(Dtype operands, Dtype out) {
    const bool sixteen = operands == Dtype::bf16 || operands == Dtype::f16;
    return sixteen && out == operands ? out : operands == Dtype::f64 ? Dtype::f64 : Dtype::f32;
}

GemmDesc describe_converted(const NodeView& node) {
    GemmDesc desc = describe(node);
    // A result in f64 is a sum in f64.
    desc.a = desc.b = desc.c == Dtype::f64 ? Dtype::f64 : common_dtype(desc.a, desc.b);
    desc.c = product_dtype(desc.a, desc.c);
    desc.device_factor = node.in[0].scaling != kUnscaled || node.in[1].scaling != kUnscaled;
    return desc;
}

Refusal reject_converted(const NodeView& node) {
    if (!reject_empty(node)) return "no elements";
    if (has_fine_scales(node)) return "an operand has scales per row, block or group";
    const GemmDesc desc = describe_converted(node);
    if (desc.bias && desc.c != node.out[0].dtype) return "the bias is not of the product's dtype";
    return reject_bias(desc);
}

Prepared prepare_converted(const NodeView& node) {
    const GemmDesc desc = describe_converted(node);
    const std::array<Dtype, 2> given{node.in[0].dtype, node.in[1].dtype};
    const Dtype operands = desc.a, out = node.out[0].dtype;
    const auto product = std::make_shared<const Gemm>(desc);

    ScratchCounter scratch;
    std::array<std::int64_t, 2> converted{};
    for (std::size_t i = 0; i < 2; ++i) {
        if (given[i] == operands) continue;
        converted[i] = scratch.reserve(node.in[i].shape.elements() *
                                       static_cast<std::int64_t>(size_of(operands)));
    }
    const std::int64_t n = desc.m * desc.n;
    const bool converts_out = desc.c != out;
    const std::int64_t c_offset =
        converts_out ? scratch.reserve(n * static_cast<std::int64_t>(size_of(desc.c))) : 0;
    const std::int64_t factors = desc.device_factor ? scratch.reserve(2 * sizeof(double)) : 0;
    const std::int64_t workspace = scratch.reserve(product->workspace_bytes());

    const auto run = [=](const KernelCall& call) {
        const auto operand = [&](std::size_t i) -> const void* {
            const TensorRef& t = call.in[i];
            if (given[i] == operands) return t.data;
            std::byte* to = call.scratch + converted[i];
            convert(t.data, given[i], to, operands, t.type.shape.elements());
            return to;
        };
        const TensorRef& result = call.out[0];
        void* c = converts_out ? call.scratch + c_offset : result.data;
        const void* acc = nullptr;
        if (desc.accumulate && converts_out) {
            convert(call.in.back().data, out, c, desc.c, n);
            acc = c;
        } else if (desc.accumulate) {
            acc = accumulator_for(call, c);
        }
        GemmScales scales;
        if (desc.device_factor) {
            scales.alpha_beta = call.scratch + factors;
            product_factors(call.in[0].scales(), call.in[1].scales(), desc.accumulate, operands,
                            call.scratch + factors);
        }
        (*product)({operand(0), operand(1), bias_of(desc, call), acc}, c, scales,
                   call.scratch + workspace);
        if (converts_out) convert(c, desc.c, result.data, out, n);
    };
    return {run, scratch.bytes()};
}

Prepared prepare_biased(const NodeView& node) {
    return prepare_matmul_biased(kernel_registry(), node);
}

// For one product of two matrices, and without a bias.
template <Refusal (*reject)(const NodeView&)>
Refusal plain(const NodeView& node) {
    return ungrouped<unbiased<reject>>(node);
}

constexpr Kernel kKernels[] = {
    {"empty", plain<reject_empty>, prepare_empty},
    {"few_rows", ungrouped<reject_few_rows>, prepare_few_rows},
    {"cublaslt_fp8", ungrouped<reject_fp8>, prepare_fp8},
    {"cast", reject_matmul_cast,
     [](const NodeView& node) { return prepare_matmul_cast(kernel_registry(), node); }},
    {"grouped_wgmma", reject_grouped_wgmma, prepare_grouped_wgmma},
    {"grouped_dequantised", reject_grouped_dequantised, prepare_dequantised},
    {"grouped_simple", reject_grouped_simple, prepare_grouped_simple},
    {"moss", plain<reject_moss>, prepare_moss},
    {"dequantised", plain<reject_dequantised>, prepare_dequantised},
    {"cublaslt", ungrouped<reject_converted>, prepare_converted},
    {"biased", reject_biased, prepare_biased},
};

}  // namespace

// Whether the kernel of the product without a bias takes it with one, too.
bool adds_bias(const Matmul& op, const Type& a, const Type& b) {
    Matmul product = op;
    product.bias = product.accumulate = false;
    const Type factors[] = {a, b};
    const Type c = rules_of(Op(product)).type(product, Operands("matmul", factors))[0];
    const Type biased_in[] = {a, b, {c.dtype, {c.shape.last()}}, c};
    const Op plain = product, biased = op;
    const NodeView without{plain, factors, {&c, 1}, {}};
    const NodeView with{biased, std::span(biased_in).first(op.accumulate ? 4 : 3), {&c, 1}, {}};
    for (const Kernel& kernel : kKernels) {
        if (!kernel.reject(without)) return !kernel.reject(with);
    }
    return false;
}

Prepared prepare_strided_matmul(const Matmul& op, const Type& a, const Type& b,
                                const RowStrides& strides) {
    const Type in[] = {a, b};
    const Op matmul = op;
    GemmDesc desc = describe({matmul, in, {}, {}});
    desc.stride_a = strides.a;
    desc.stride_b = strides.b;
    desc.stride_c = strides.c;
    const auto product = std::make_shared<const Gemm>(desc);
    return {[product](const KernelCall& call) {
                void* c = call.out[0].data;
                const void* acc = call.in.size() == 3 ? accumulator_for(call, c) : nullptr;
                (*product)({call.in[0].data, call.in[1].data, nullptr, acc}, c, {}, call.scratch);
            },
            product->workspace_bytes()};
}

void register_matmul(KernelRegistry& registry) {
    for (const Kernel& kernel : kKernels) registry.add<Matmul>(kernel);
}

}  // namespace octavo::cuda
