// What is known about an op without running it. Each op's file in src/ops fills one Rules; nothing
// else lists ops.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "graph/graph.h"

namespace octavo {

class Builder;
class ScaleBuilder;
struct Scaled;

// The operand types of a node under inspection, with checks that name the op.
class Operands {
  public:
    Operands(std::string_view op, std::span<const Type> types) : op_(op), types_(types) {}

    const Type& operator[](std::size_t i) const { return types_[i]; }
    std::size_t size() const { return types_.size(); }
    // The first n, as those of another op.
    Operands first(std::string_view op, std::size_t n) const { return {op, types_.first(n)}; }

    void expect_count(std::size_t n) const { expect_count(n, n); }
    void expect_count(std::size_t least, std::size_t most) const;
    void expect_rank(std::size_t i, int rank) const;
    void expect_shape(std::size_t i, const Shape&) const;
    void expect_dtype(std::size_t i, Dtype) const;
    // f64, f32, bf16 or f16, unscaled.
    void expect_float(std::size_t i) const;
    // Operand `i` has the type of operand `as`.
    void expect_like(std::size_t i, std::size_t as) const;

  private:
    std::string_view op_;
    std::span<const Type> types_;
};

// Result `out` may be written over operand `in` when the operand dies with the node. A negative
// `in` counts from the last operand; what a node does not have is passed over.
struct InPlace {
    int out = -1, in = 0;

    std::optional<std::size_t> operand(std::size_t count) const {
        const auto i = in < 0 ? in + static_cast<std::ptrdiff_t>(count) : in;
        if (out < 0 || i < 0 || i >= static_cast<std::ptrdiff_t>(count)) return std::nullopt;
        return static_cast<std::size_t>(i);
    }
};

using Types = std::vector<Type>;

struct Rules {
    // Checks the operands and gives the types of the results.
    Types (*type)(const Op&, Operands) = nullptr;
    // The definition in simpler ops, for fused ops: specification, oracle and fallback in one. No
    // values: with these attributes the op is as simple as it gets.
    Values (*decompose)(Builder&, const Op&, const Values& in) = nullptr;
    // Gradients for each operand, given those of each result; "no value" where none flows.
    Values (*vjp)(Builder&, const Op&, const Values& in, const Values& out,
                  const Values& dout) = nullptr;
    // Emits the op on data, and gives the scales of the results by those of the operands
    // (graph/scaled.h); null: scales do not pass through this op.
    std::vector<Scaled> (*scale)(ScaleBuilder&, const Op&, const std::vector<Scaled>& in) = nullptr;
    std::array<InPlace, 4> in_place{};
    bool view = false;  // result 0 is operand 0's memory under another type
};

const Rules& rules_of(const Op&);

// Typed rules, and their erasure into Rules; used once per op:
//
//     constexpr RulesFor<RmsNorm> kRmsNorm{.type = type, .vjp = vjp};    // in the anonymous
//     namespace const Rules& rules(const RmsNorm&) { return kRules<kRmsNorm>; }
template <class T>
struct RulesFor {
    using OpType = T;
    Types (*type)(const T&, Operands) = nullptr;
    Values (*decompose)(Builder&, const T&, const Values&) = nullptr;
    Values (*vjp)(Builder&, const T&, const Values&, const Values&, const Values&) = nullptr;
    std::vector<Scaled> (*scale)(ScaleBuilder&, const T&, const std::vector<Scaled>&) = nullptr;
    std::array<InPlace, 4> in_place{};
    bool view = false;
};

template <const auto& R>
constexpr Rules erase() {
    using T = typename std::remove_cvref_t<decltype(R)>::OpType;
    Rules r;
    r.type = [](const Op& op, Operands in) { return R.type(std::get<T>(op), in); };
    if constexpr (R.decompose != nullptr) {
        r.decompose = [](Builder& b, const Op& op, const Values& in) {
            return R.decompose(b, std::get<T>(op), in);
        };
    }
    if constexpr (R.vjp != nullptr) {
        r.vjp = [](Builder& b, const Op& op, const Values& in, const Values& out,
                   const Values& dout) { return R.vjp(b, std::get<T>(op), in, out, dout); };
    }
    if constexpr (R.scale != nullptr) {
        r.scale = [](ScaleBuilder& s, const Op& op, const std::vector<Scaled>& in) {
            return R.scale(s, std::get<T>(op), in);
        };
    }
    r.in_place = R.in_place;
    r.view = R.view;
    return r;
}

template <const auto& R>
inline constexpr Rules kRules = erase<R>();

#define OP(T, file) const Rules& rules(const T&);
#include "graph/ops.inc"
#undef OP

// The dtype of statistics and parameter gradients that belong to values of dtype `d`: f32, or f64
// when everything is computed in f64.
constexpr Dtype accumulator(Dtype d) { return d == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

}  // namespace octavo
