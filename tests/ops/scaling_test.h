// Helpers of the tests of quantisers and scales.
#pragma once

#include <bit>

#include "ops/op_test.h"

namespace octavo::test {

inline Build as_is(Op op) {
    return [op](Builder& b, const Values& in) { return b.emit(op, in); };
}
inline Build decomposed(Op op) {
    return [op](Builder& b, const Values& in) { return rules_of(op).decompose(b, op, in); };
}

inline HostTensor scalar(double x) { return tensor(Dtype::f32, {1}, {x}); }
inline HostTensor count(double n) { return tensor(Dtype::i32, {1}, {n}); }
inline HostTensor vector(Dtype dtype, const std::vector<double>& values) {
    return tensor(dtype, {std::ssize(values)}, values);
}

// Codes under one scale.
inline HostTensor scaled_tensor(Dtype dtype, const std::vector<std::uint8_t>& codes, float scale) {
    HostTensor t{{dtype, {std::ssize(codes)}, kPerTensor}, {}, {}, {scale}};
    for (std::uint8_t c : codes) t.codes.push_back(std::byte{c});
    return t;
}

inline std::vector<int> code_values(const HostTensor& t) {
    std::vector<int> codes;
    for (std::byte b : t.codes) codes.push_back(std::to_integer<int>(b));
    return codes;
}

// Bit for bit, NaNs included.
inline void expect_identical(const HostTensor& a, const HostTensor& b) {
    EXPECT_EQ(a.type, b.type);
    EXPECT_EQ(a.codes, b.codes);
    EXPECT_EQ(a.groups, b.groups);
    ASSERT_EQ(a.scales.size(), b.scales.size());
    for (std::size_t i = 0; i < a.scales.size(); ++i) {
        EXPECT_EQ(std::bit_cast<std::uint32_t>(a.scales[i]),
                  std::bit_cast<std::uint32_t>(b.scales[i]));
    }
}

// The Error that `build` is refused with.
inline std::string refusal(const Build& build, const std::vector<Type>& in) {
    Graph graph;
    Builder b(graph);
    Values inputs;
    for (const Type& t : in) inputs.push_back(b.input("in" + std::to_string(inputs.size()), t));
    try {
        build(b, inputs);
    } catch (const Error& e) {
        return e.message();
    }
    return "accepted";
}

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace octavo::test
