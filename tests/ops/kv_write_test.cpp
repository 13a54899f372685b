#include "ops/plain_test.h"

namespace octavo::test {
namespace {

// Operands for pools of five slots and 2 x 2 new tokens, of which one has no slot. Pools of codes
// have the scales `k` and `v`.
std::vector<HostTensor> operands(Dtype dtype, std::int64_t d, bool coded = false, double k = 1,
                                 double v = 1) {
    const Shape pool{5, 2, d}, added{2, 2, 2, d};
    const Dtype stored = coded ? Dtype::e4m3 : dtype;
    std::vector<HostTensor> in{random_tensor(stored, pool, 1), random_tensor(stored, pool, 2),
                               random_tensor(dtype, added, 3), random_tensor(dtype, added, 4),
                               tensor(Dtype::i32, {2, 2}, {4, 0, -1, 2})};
    if (coded) in.insert(in.end(), {scalar(k), scalar(v)});
    return in;
}

TEST(KvWrite, WritesTokensToTheirSlots) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const std::int64_t d : {1, 3, 4, 8}) {
            const std::vector<HostTensor> in = operands(dtype, d);
            const auto out = run(as_is(KvWrite{}), in);
            for (const std::size_t which : {0, 1}) {
                std::vector<double> want = in[which].values;
                for (std::size_t token = 0; token < 4; ++token) {
                    if (in[4].values[token] < 0) continue;
                    const auto slot = static_cast<std::size_t>(in[4].values[token]);
                    for (std::int64_t i = 0; i < 2 * d; ++i) {
                        want[slot * 2 * d + i] = in[2 + which].values[token * 2 * d + i];
                    }
                }
                EXPECT_EQ(out[which].values, want);
            }
            expect_same_in_place(KvWrite{}, in);
        }
    }
}

// Of x * fl(1 / scale), which is not always what x / scale rounds to.
TEST(KvWrite, CodesAreOfElementsTimesTheInverseScale) {
    const float k_scale = 0.025f, v_scale = 0.0137f;
    for (const Dtype dtype : kPlainDtypes) {
        for (const std::int64_t d : {3, 8}) {
            const std::vector<HostTensor> in = operands(dtype, d, true, k_scale, v_scale);
            const auto out = run(as_is(KvWrite{}), in);
            for (const std::size_t which : {0, 1}) {
                const float inverse = 1.0f / (which == 0 ? k_scale : v_scale);
                std::vector<std::byte> want = in[which].codes;
                for (std::size_t token = 0; token < 4; ++token) {
                    if (in[4].values[token] < 0) continue;
                    const auto slot = static_cast<std::size_t>(in[4].values[token]);
                    for (std::int64_t i = 0; i < 2 * d; ++i) {
                        const auto x = static_cast<float>(in[2 + which].values[token * 2 * d + i]);
                        want[slot * 2 * d + i] = std::byte{e4m3(x * inverse).bits};
                    }
                }
                EXPECT_EQ(out[which].codes, want);
            }
        }
    }
}

std::vector<int> codes_of(const std::vector<double>& values, float scale) {
    const auto n = std::ssize(values);
    const HostTensor pool = tensor(Dtype::e4m3, {1, 1, n}, std::vector<double>(values.size()));
    const HostTensor added = tensor(Dtype::f32, {1, 1, 1, n}, values);
    const auto out =
        run(as_is(KvWrite{}),
            {pool, pool, added, added, tensor(Dtype::i32, {1, 1}, {0}), scalar(scale), scalar(1)});
    return code_values(out[0]);
}

// Known codes: what vLLM's e4m3 caches hold.
TEST(KvWrite, KnownCodes) {
    EXPECT_EQ(codes_of({1, -2.5, 4.99, 11.2, 12, 1e-4}, std::bit_cast<float>(0x3CCCCCCDu)),
              (std::vector<int>{0x62, 0xEC, 0x74, 0x7E, 0x7E, 0x02}));
    EXPECT_EQ(codes_of({1, -2.5, 4.99, 500, 1e-4, 1e-3}, 1),
              (std::vector<int>{0x38, 0xC2, 0x4A, 0x7E, 0x00, 0x01}));
    EXPECT_EQ(codes_of({kNan, kInf, -kInf, 0, -0.0}, 1),
              (std::vector<int>{0x7F, 0x7E, 0xFE, 0x00, 0x80}));
}

TEST(KvWrite, NothingNew) {
    const HostTensor k = random_tensor(Dtype::bf16, {3, 1, 2}, 1);
    const HostTensor v = random_tensor(Dtype::bf16, {3, 1, 2}, 2);
    const HostTensor none = tensor(Dtype::bf16, {2, 0, 1, 2}, {});
    const auto out = run(as_is(KvWrite{}), {k, v, none, none, tensor(Dtype::i32, {2, 0}, {})});
    expect_identical(out[0], k);
    expect_identical(out[1], v);
}

TEST(KvWrite, RefusesOtherTypes) {
    const Type pool{Dtype::bf16, {5, 2, 4}}, codes{Dtype::e4m3, {5, 2, 4}};
    const Type added{Dtype::bf16, {2, 1, 2, 4}}, slots{Dtype::i32, {2, 1}}, one{Dtype::f32, {1}};
    const auto refused = [&](const Types& in) { return refusal(as_is(KvWrite{}), in); };
    const Type other{Dtype::bf16, {2, 1, 1, 4}}, wide{Dtype::f32, {2, 1, 2, 4}};
    EXPECT_EQ(refused({pool, pool, other, other, slots}),
              "kv_write: operand 0 must have shape [5, 1, 4], got bf16[5, 2, 4]");
    EXPECT_EQ(refused({pool, pool, added, other, slots}),
              "kv_write: operands 2 and 3 must have the same type, got bf16[2, 1, 2, 4] and "
              "bf16[2, 1, 1, 4]");
    EXPECT_EQ(refused({pool, pool, wide, wide, slots}),
              "kv_write: operand 0 must be unscaled f32, got bf16[5, 2, 4]");
    EXPECT_EQ(refused({pool, pool, added, added, {Dtype::i32, {1, 2}}}),
              "kv_write: operand 4 must have shape [2, 1], got i32[1, 2]");
    EXPECT_EQ(refused({codes, codes, added, added, slots}),
              "kv_write: operand 0 must be unscaled bf16, got e4m3[5, 2, 4]");
    EXPECT_EQ(refused({pool, pool, added, added, slots, one}),
              "kv_write: k and v have a scale each, got 6 operands");
    EXPECT_EQ(refused({codes, codes, added, added, slots, one, slots}),
              "kv_write: operand 6 must be unscaled f32, got i32[2, 1]");
}

}  // namespace
}  // namespace octavo::test
