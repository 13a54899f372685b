// The closed set of ops, as plain structs of attributes. Operands, results and mathematics of each
// are documented at the top of its file in src/ops.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/scale.h"
#include "graph/type.h"

namespace octavo {

// Where values come from and go to; the executor handles these four itself.
struct Input {  // written by the caller before each run
    std::string name;
    Type type;
    bool operator==(const Input&) const = default;
};
struct Load {  // a named tensor of State, as it was when the run began
    std::string name;
    Type type;
    // How large values of a parameter are by its initialisation: about 2^exponent. What scale
    // propagation goes by; a parameter under one scale has 2^exponent, and it stays, unless
    // recipe.state_rescale measures it.
    std::optional<int> exponent{};
    bool operator==(const Load&) const = default;
};
struct Store {  // overwrites a named tensor of State
    std::string name;
    bool operator==(const Store&) const = default;
};

// What a matrix product is for. Recipes give the operands of these three their formats; a product
// of kind `plain` is left alone.
enum class MatmulKind : std::uint8_t { plain, fprop, dgrad, wgrad };

// The method that places the rotary frequencies.
struct RopeScaling {
    enum class Kind : std::uint8_t { none, llama3 } kind = Kind::none;
    double factor = 1, low_freq_factor = 1, high_freq_factor = 1;
    std::int64_t original_max_positions = 0;
    bool operator==(const RopeScaling&) const = default;
};

// One fp8 cast: format, rounding of the scale to a power of two or not, and the margin in bits.
struct ScaleRule {
    Dtype to = Dtype::e4m3;
    ScaleRounding rounding = ScaleRounding::pow2;
    int margin = 0;
    bool operator==(const ScaleRule&) const = default;
};

// Which parts of a matrix (all dimensions but the last are rows) have a factor of their own.
enum class Axis : std::uint8_t { row, column };

#define OCTAVO_PLAIN_OP(T)                         \
    struct T {                                     \
        bool operator==(const T&) const = default; \
    }
OCTAVO_PLAIN_OP(Amax);
OCTAVO_PLAIN_OP(Codes);
OCTAVO_PLAIN_OP(Combine);
OCTAVO_PLAIN_OP(CombineGrad);
OCTAVO_PLAIN_OP(Concat);
OCTAVO_PLAIN_OP(Dispatch);
OCTAVO_PLAIN_OP(Embedding);
OCTAVO_PLAIN_OP(GatherRows);
OCTAVO_PLAIN_OP(Guard);
OCTAVO_PLAIN_OP(KvWrite);
OCTAVO_PLAIN_OP(Maximum);
OCTAVO_PLAIN_OP(MeasureCast);
OCTAVO_PLAIN_OP(Mul);
OCTAVO_PLAIN_OP(Normalise);
OCTAVO_PLAIN_OP(Relu);
OCTAVO_PLAIN_OP(ReluGrad);
OCTAVO_PLAIN_OP(Sample);
OCTAVO_PLAIN_OP(ScaleOf);
OCTAVO_PLAIN_OP(SplitPower);
OCTAVO_PLAIN_OP(SumRows);
#undef OCTAVO_PLAIN_OP

// Exponents are of factors 2^exponent, which scale propagation (arXiv 2407.17353) puts where a
// kernel can apply them in f32 on its way; multiplying by them is exact.

struct AdamBounds {
    float beta1 = 0.9f, beta2 = 0.95f;
    bool operator==(const AdamBounds&) const = default;
};
// A copy of a tensor in another format: of its data times 2^exponent, or under a given scale.
struct WorkingCopy {
    Dtype to = Dtype::e4m3;
    int exponent = 0;
    bool scaled = false;
    bool operator==(const WorkingCopy&) const = default;
};
struct AdamW {
    float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0;
    ScaleRounding scale_rounding = ScaleRounding::exact;  // of m and v under a scale
    bool stochastic = false;            // results in bf16 are rounded up or down at random
    bool stochastic_moments = false;    // m' and v' under a scale, too
    std::uint64_t stream = 0;           // of the random numbers
    std::uint64_t seed = 0;             // of those of moments under a scale
    bool sqrt_v = false;                // v is kept as its root
    bool v_floor = false;               // v' > 0 under a scale is not rounded to 0
    bool amax = false;                  // a result more: the amax of w'
    bool keep_scale = false;            // of w, instead of one from the amax of w'
    std::optional<WorkingCopy> copy{};  // a result more: of w'
    bool operator==(const AdamW&) const = default;
};
// Whether the eighth of so many operands are bounds of the moments.
constexpr bool has_bounds(const AdamW& op, std::size_t operands) {
    return operands == (op.copy && op.copy->scaled ? 9 : 8);
}
struct Add {
    int a_exponent = 0, b_exponent = 0;
    bool operator==(const Add&) const = default;
};
struct AdvanceScale {
    ScaleRule rule;
    bool operator==(const AdvanceScale&) const = default;
};
struct Attention {
    float scale = 1;
    bool operator==(const Attention&) const = default;
};
struct AttentionGrad {
    float scale = 1;
    bool operator==(const AttentionGrad&) const = default;
};
struct BiasAdd {
    int x_exponent = 0, bias_exponent = 0;
    bool operator==(const BiasAdd&) const = default;
};
struct ScaleAlong {  // by a factor for each row or column
    Axis axis = Axis::row;
    bool inverse = false;  // divides
    bool operator==(const ScaleAlong&) const = default;
};
// What a fused quantiser computes before it quantises: the op of that name, or nothing.
enum class QuantiseSource : std::uint8_t {
    value,
    swiglu,
    joined_swiglu,
    gelu,
    gelu_grad,
    swiglu_grad,
    normalise,
};
// Which copies a quantiser makes: of the tensor, of its transpose, or both.
enum class Copies : std::uint8_t { rows, columns, both };
struct BlockQuantise {
    Dtype to = Dtype::e4m3;
    Scaling scaling{Granularity::block_1x128};  // row, block_1x128, block_128x128 or micro
    ScaleRounding rounding = ScaleRounding::exact;
    BlockRule rule = BlockRule::recip;
    float floor = 0x1p-100f;  // smaller amaxes count as this one
    bool global = false;      // micro: all rows under the tensor's scale
    QuantiseSource of = QuantiseSource::value;
    Copies copies = Copies::rows;
    bool operator==(const BlockQuantise&) const = default;
};
struct Cast {
    Dtype to = Dtype::f32;
    int exponent = 0;
    bool transpose = false;  // a transposed copy, too
    // What is cast: the results of this op, whose function sees its operand times
    // 2^source_exponent, and of which the second has an exponent of its own.
    QuantiseSource of = QuantiseSource::value;
    int source_exponent = 0, second_exponent = 0;
    bool operator==(const Cast&) const = default;
};
struct ClipFactor {
    float max_norm = 1;
    bool scaled = false;  // results more: the factor times each further operand
    bool operator==(const ClipFactor&) const = default;
};
struct ComputeScale {
    ScaleRule rule;
    bool operator==(const ComputeScale&) const = default;
};
struct Constant {
    Type type;
    double value = 0;
    bool operator==(const Constant&) const = default;
};
struct CrossEntropy {
    int exponent = 0;  // of the logits
    bool operator==(const CrossEntropy&) const = default;
};
struct CrossEntropyGrad {
    int exponent = 0;           // of the logits
    int gradient_exponent = 0;  // of the result
    bool operator==(const CrossEntropyGrad&) const = default;
};
struct CurrentQuantise {
    ScaleRule rule;
    QuantiseSource of = QuantiseSource::value;
    bool transpose = false;              // a transposed copy of the codes, too
    std::optional<ScaleAlong> scaled{};  // first of all, the source's last operand
    bool operator==(const CurrentQuantise&) const = default;
};
struct DelayedQuantise {
    ScaleRule rule;
    QuantiseSource of = QuantiseSource::value;
    bool transpose = false;              // a transposed copy of the codes, too
    std::optional<ScaleAlong> scaled{};  // first of all, the source's last operand
    bool operator==(const DelayedQuantise&) const = default;
};
struct DelayedScale {
    ScaleRule rule;
    bool operator==(const DelayedScale&) const = default;
};
struct Dequantise {
    Dtype to = Dtype::f32;
    bool operator==(const Dequantise&) const = default;
};
// How large a tensor is.
enum class Statistic : std::uint8_t { l2, l1, max };
struct DynamicRescale {
    Statistic statistic = Statistic::l2;
    int exponent = 0;
    bool operator==(const DynamicRescale&) const = default;
};
struct EmbeddingGrad {
    std::int64_t vocab = 0;
    bool operator==(const EmbeddingGrad&) const = default;
};
struct Exp {
    int exponent = 0;
    bool operator==(const Exp&) const = default;
};
// Where tokens go that have chosen experts: rows sorted by expert.
struct ExpertOrder {
    std::int64_t experts = 1;
    std::int64_t alignment = 1;  // each expert's rows begin at a multiple of it
    bool operator==(const ExpertOrder&) const = default;
};
struct Gelu {
    int exponent = 0;
    bool operator==(const Gelu&) const = default;
};
struct GeluGrad {
    int exponent = 0;
    bool operator==(const GeluGrad&) const = default;
};
struct GlobalNorm {
    bool scaled = false;  // each operand has a scale beside it
    bool operator==(const GlobalNorm&) const = default;
};
// Of a fused head: those of its three products, and of its CrossEntropy and CrossEntropyGrad.
struct HeadExponents {
    int fprop = 0, dgrad = 0, wgrad = 0, logits = 0, gradient = 0;
    bool operator==(const HeadExponents&) const = default;
};
struct HeadLoss {
    bool trans_b = true;  // the head's weight is (V, C), as in a Linear
    bool accumulate = false;
    std::int64_t chunk = 0;  // rows of logits held at a time
    // FP8 products: how the gradients of logits are quantised, and the dtype they and logits have
    // before.
    std::optional<ScaleRule> quantise{};
    Dtype logits = Dtype::bf16;
    HeadExponents exponents{};
    bool operator==(const HeadLoss&) const = default;
};
struct Iota {
    Type type;
    bool operator==(const Iota&) const = default;
};
struct LayerNorm {
    float eps = 1e-5f;
    bool statistics = false;  // alone, without y
    bool operator==(const LayerNorm&) const = default;
};
struct LayerNormGrad {
    std::optional<DynamicRescale> measure{};  // a result more: the size of dx
    bool operator==(const LayerNormGrad&) const = default;
};
struct Matmul {
    bool trans_a = false, trans_b = false;
    MatmulKind kind = MatmulKind::plain;
    Dtype out = Dtype::f32;
    bool bias = false;        // operand 2 is added to each row of the product
    bool accumulate = false;  // the last operand is added to the product
    int exponent = 0;         // of the product
    // Products of as many experts, whose rows lie one after the other: operand 2 has their first
    // rows. They cut the rows of a, and b is a stack of matrices; or with `group_k` they cut K, and
    // the result is a stack.
    std::int64_t groups = 0;
    bool group_k = false;
    std::int64_t alignment = 1;  // first rows are multiples of it
    bool operator==(const Matmul&) const = default;
};
// What a cast to an 8-bit float would have to saturate.
struct OverflowToNan {
    Dtype to = Dtype::e4m3;
    int exponent = 0;  // of the cast
    bool operator==(const OverflowToNan&) const = default;
};
struct PagedAttention {
    float scale = 1;
    std::int64_t block = 16;  // tokens of a block
    bool operator==(const PagedAttention&) const = default;
};
struct PredictAmax {
    float bound = 1;  // of |update| / learning rate
    bool operator==(const PredictAmax&) const = default;
};
// The random numbers of a cast, beside the number of the draw: base/stochastic.h.
struct CastNoise {
    std::uint64_t seed = 0;
    std::uint32_t tensor = 0;
    bool operator==(const CastNoise&) const = default;
};
struct Quantise {
    Dtype to = Dtype::e4m3;
    Copies copies = Copies::rows;
    std::optional<CastNoise> noise{};  // rounds up or down at random; its draw is an operand more
    bool operator==(const Quantise&) const = default;
};
struct RangeScale {
    float range = 1;  // the code of the amax
    bool operator==(const RangeScale&) const = default;
};
struct Reshape {
    Shape shape;
    bool operator==(const Reshape&) const = default;
};
struct RmsNorm {
    float eps = 1e-5f;
    bool statistics = false;  // alone, without y
    bool operator==(const RmsNorm&) const = default;
};
struct RmsNormGrad {
    std::optional<DynamicRescale> measure{};  // a result more: the size of dx
    bool operator==(const RmsNormGrad&) const = default;
};
struct RmsNormQuantise {
    float eps = 1e-5f;
    BlockQuantise quantise;  // of values, by rows alone
    bool operator==(const RmsNormQuantise&) const = default;
};
struct Rope {
    double theta = 10000;
    RopeScaling scaling{};
    std::int64_t max_positions = 0;
    bool inverse = false;
    bool operator==(const Rope&) const = default;
};
// A joined product on its way into a cache: norms of the heads of q and k, rotary positions,
// KvWrite.
struct QkvToCache {
    std::int64_t heads = 1, kv_heads = 1;
    std::optional<float> norm_eps{};
    Rope rope{};
    bool operator==(const QkvToCache&) const = default;
};
struct RouteTopK {
    std::int64_t k = 1;
    bool normalise = true;  // gates of a token add up to 1
    bool operator==(const RouteTopK&) const = default;
};
struct RouteTopKGrad {
    bool normalise = true;
    bool operator==(const RouteTopKGrad&) const = default;
};
struct RouterLoss {
    float balance = 0, z = 0;  // coefficients
    bool operator==(const RouterLoss&) const = default;
};
struct RouterLossGrad {
    float balance = 0, z = 0;
    bool operator==(const RouterLossGrad&) const = default;
};
struct ScaleByPowers {
    std::vector<int> exponents{};
    bool operator==(const ScaleByPowers&) const = default;
};
struct SmoothFactors {
    Axis axis = Axis::row;  // whose maxima they are
    ScaleRounding rounding = ScaleRounding::pow2;
    bool operator==(const SmoothFactors&) const = default;
};
struct SmoothSwiGlu {
    Axis axis = Axis::row;  // whose maxima are divided out
    ScaleRounding rounding = ScaleRounding::pow2;
    bool amax = false;   // a result more: the amax of h
    bool given = false;  // column: divides by factors that are operands
    bool operator==(const SmoothSwiGlu&) const = default;
};
struct Rsqrt {
    int exponent = 0;
    bool operator==(const Rsqrt&) const = default;
};
struct ScaledAdd {
    // Of the scales, and of the sizes that the scale of the result goes by.
    int a_exponent = 0, b_exponent = 0, a_size = 0, b_size = 0;
    std::optional<Cast> cast{};  // results more: those of this cast of the sum
    bool operator==(const ScaledAdd&) const = default;
};
struct Select {
    int a_exponent = 0, b_exponent = 0;
    bool operator==(const Select&) const = default;
};
struct Silu {
    int exponent = 0;
    bool operator==(const Silu&) const = default;
};
struct SiluGrad {
    int exponent = 0;
    bool operator==(const SiluGrad&) const = default;
};
struct Softmax {
    int exponent = 0;         // of x
    int result_exponent = 0;  // of the result
    bool operator==(const Softmax&) const = default;
};
struct SoftmaxGrad {
    int exponent = 0;  // of y
    bool operator==(const SoftmaxGrad&) const = default;
};
struct Split {  // of the last dimension
    std::vector<std::int64_t> sizes{};
    bool operator==(const Split&) const = default;
};
struct Sqrt {
    int exponent = 0;
    bool operator==(const Sqrt&) const = default;
};
struct SwiGlu {
    int exponent = 0;     // of the gate
    bool joined = false;  // one operand has gate and up, side by side
    bool operator==(const SwiGlu&) const = default;
};
struct SwiGluGrad {
    int exponent = 0;  // of the gate
    bool operator==(const SwiGluGrad&) const = default;
};
struct Transpose {
    bool batched = false;  // of each matrix of a stack
    bool operator==(const Transpose&) const = default;
};

#define OP(T, file) , T
using OpVariant = std::variant<Input, Load, Store
#include "graph/ops.inc"
                               >;
#undef OP

// Position of T in the variant, the index of kernel tables.
template <class T>
constexpr std::size_t op_index() {
    return []<class... Ts>(std::variant<Ts...>*) {
        constexpr bool same[] = {std::is_same_v<T, Ts>..., true};
        std::size_t i = 0;
        while (!same[i]) ++i;
        return i;
    }(static_cast<OpVariant*>(nullptr));
}

// An op with its attributes, by std::get, std::get_if and std::visit. A variant of a hundred types
// costs every file that converts to it or copies it a second of compilation: conversions name their
// alternative here, and copies are compiled once.
struct Op : OpVariant {
    template <class T>
        requires(op_index<T>() < std::variant_size_v<OpVariant>)
    Op(T op) : OpVariant(std::in_place_type<T>, std::move(op)) {}
    Op(const Op&);
    Op(Op&&) noexcept;
    Op& operator=(const Op&);
    Op& operator=(Op&&) noexcept;
    ~Op();
    bool operator==(const Op&) const;
};

// "matmul", "rms_norm", ...: the name of the op's file.
std::string_view op_name(const Op& op);

}  // namespace octavo
