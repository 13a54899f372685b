#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

constexpr std::int64_t kBlockTokens = 16;
constexpr float kScaleOfK = 0.02f, kScaleOfV = 0.013f, kScaleOfQ = 0.023f;

enum class Fp8 { no, pools, products };
constexpr Fp8 kFp8[] = {Fp8::no, Fp8::pools, Fp8::products};

struct Row {
    int sequence, position;
};
using Rows = std::vector<Row>;

// Rows of several sequences over blocks in no order.
struct PagedCase {
    std::int64_t h, g, d;
    Dtype dtype = Dtype::f32;
    Fp8 fp8 = Fp8::no;
    Rows rows = {};
    bool decode = false;     // q (N, 1, H, D), not (1, N, H, D)
    std::int64_t table = 6;  // blocks of a sequence

    bool coded() const { return fp8 != Fp8::no; }
    std::int64_t keys() const { return table * kBlockTokens; }
    PagedAttention op() const { return {1.0f / std::sqrt(static_cast<float>(d)), kBlockTokens}; }
    std::int64_t sequences() const {
        int most = 0;
        for (const Row& row : rows) most = std::max(most, row.sequence);
        return most + 1;
    }
    std::int64_t visible(const Row& row) const {
        return std::clamp<std::int64_t>(row.position + std::int64_t{1}, 0, keys());
    }
    // Keys of a sequence that any of its rows sees.
    std::int64_t written(std::int64_t sequence) const {
        std::int64_t most = 0;
        for (const Row& row : rows) {
            if (row.sequence == sequence) most = std::max(most, visible(row));
        }
        return most;
    }
    // The pools have blocks of nobody, too.
    std::int64_t blocks() const { return sequences() * table + 3; }
    std::int64_t block(std::int64_t sequence, std::int64_t i) const {
        return ((sequence * table + i) * 7919 + 5) % blocks();
    }
    std::int64_t slot(std::int64_t sequence, std::int64_t s) const {
        return block(sequence, s / kBlockTokens) * kBlockTokens + s % kBlockTokens;
    }
};

void PrintTo(const PagedCase& c, std::ostream* os) {
    *os << c.rows.size() << " rows H" << c.h << " G" << c.g << " D" << c.d << " " << name(c.dtype)
        << std::array{"", " codes", " products of codes"}[static_cast<std::size_t>(c.fp8)]
        << (c.decode ? " decode" : "") << " table " << c.table;
}

// Slots that no row sees hold NaN.
HostTensor pool(const PagedCase& c, std::uint64_t seed, float scale) {
    const std::int64_t n = c.g * c.d, slots = c.blocks() * kBlockTokens;
    std::vector<double> values(static_cast<std::size_t>(slots * n), kNan);
    const Rng rng(seed, 0);
    for (std::int64_t sequence = 0; sequence < c.sequences(); ++sequence) {
        for (std::int64_t s = 0; s < c.written(sequence); ++s) {
            const std::int64_t at = c.slot(sequence, s) * n;
            for (std::int64_t i = at; i < at + n; ++i) {
                values[i] = rng.normal(static_cast<std::uint64_t>(i)) / (c.coded() ? scale : 1);
            }
        }
    }
    return tensor(c.coded() ? Dtype::e4m3 : c.dtype, {slots, c.g, c.d}, values);
}

// Tables name no block where nothing is written.
std::vector<HostTensor> operands(const PagedCase& c) {
    std::vector<double> tables, sequences, positions;
    for (std::int64_t i = 0; i < c.sequences() * c.table; ++i) {
        const std::int64_t sequence = i / c.table, at = i % c.table;
        const bool used = at * kBlockTokens < c.written(sequence);
        tables.push_back(used ? static_cast<double>(c.block(sequence, at)) : -1);
    }
    for (const Row& row : c.rows) {
        sequences.push_back(row.sequence);
        positions.push_back(row.position);
    }
    const std::int64_t n = std::ssize(c.rows), b = c.decode ? n : 1, t = c.decode ? 1 : n;
    std::vector<HostTensor> in{random_tensor(c.dtype, {b, t, c.h, c.d}, 1),
                               pool(c, 2, kScaleOfK),
                               pool(c, 3, kScaleOfV),
                               tensor(Dtype::i32, {b, t}, positions),
                               tensor(Dtype::i32, {b, t}, sequences),
                               tensor(Dtype::i32, {c.sequences(), c.table}, tables)};
    if (c.coded()) {
        in.push_back(scalar(kScaleOfK));
        in.push_back(scalar(kScaleOfV));
    }
    if (c.fp8 == Fp8::products) in.push_back(scalar(kScaleOfQ));
    return in;
}

// What a pool's elements stand for.
std::vector<double> dequantised(const PagedCase& c, const HostTensor& pool, float scale) {
    std::vector<double> values = pool.values;
    for (double& x : values) x *= c.coded() ? double{scale} : 1;
    return values;
}

std::vector<double> queries(const PagedCase& c, const HostTensor& q) {
    std::vector<double> values = q.values;
    if (c.fp8 != Fp8::products) return values;
    const float inverse = 1 / kScaleOfQ;
    for (double& x : values) {
        x = double{kScaleOfQ} * float(e4m3(static_cast<float>(x) * inverse));
    }
    return values;
}

// A probability as it is multiplied with values.
double weight(const PagedCase& c, double p) {
    if (c.fp8 != Fp8::products) return p;
    return double{float(e4m3(static_cast<float>(256 * p)))} / 256;
}

// What a probability, or the score that it is of, errs by in f32 (f64).
double error_of_sums(const PagedCase& c) {
    const bool f64 = c.dtype == Dtype::f64 && c.fp8 != Fp8::products;
    // Scores round relative to |q| |k| scale, about sqrt(D) here, and probabilities by as much.
    return rounding(f64 ? Dtype::f64 : Dtype::f32) * static_cast<double>(16 + 4 * c.d + c.keys());
}

// By the definition in f64, and what bounds its error: `sizes` where terms may err together,
// `walks` where each errs on its own, like a random walk. For codes of probabilities: `turns` where
// an error of p makes another code of it, and `steps` and `step_walks` where the code is that of
// another multiple of p, as below the largest score of fewer keys.
struct PagedOracle {
    std::vector<double> o, sizes, walks;  // sum p v, sum p |v|, sqrt(sum (p v)^2)
    std::vector<double> turns, steps, step_walks;
};

PagedOracle oracle(const PagedCase& c, const std::vector<HostTensor>& in) {
    PagedOracle r;
    r.o.resize(in[0].values.size());
    r.sizes = r.walks = r.turns = r.steps = r.step_walks = r.o;
    const auto queried = queries(c, in[0]);
    const double error = error_of_sums(c);
    const auto k = dequantised(c, in[1], kScaleOfK), v = dequantised(c, in[2], kScaleOfV);
    const double scale = c.op().scale;
    for (std::size_t row = 0; row < c.rows.size(); ++row) {
        const std::int64_t visible = c.visible(c.rows[row]);
        for (std::int64_t h = 0; h < c.h; ++h) {
            const auto q = static_cast<std::int64_t>((row * c.h + h) * c.d);
            const auto at = [&](std::int64_t s) {
                return (c.slot(c.rows[row].sequence, s) * c.g + h / (c.h / c.g)) * c.d;
            };
            std::vector<double> p;
            double top = -kInf, sum = 0;
            for (std::int64_t s = 0; s < visible; ++s) {
                double score = 0;
                for (std::int64_t i = 0; i < c.d; ++i) {
                    score += queried[q + i] * k[at(s) + i] * scale;
                }
                p.push_back(score);
                top = std::max(top, score);
            }
            for (double& x : p) sum += x = std::exp(x - top);
            for (std::int64_t s = 0; s < visible; ++s) {
                const double times = weight(c, p[s]) / sum;
                for (std::int64_t i = 0; i < c.d; ++i) {
                    const double term = times * v[at(s) + i];
                    r.o[q + i] += term;
                    r.sizes[q + i] += std::abs(term);
                    r.walks[q + i] += term * term;
                }
                if (c.fp8 != Fp8::products) continue;
                const double turn = weight(c, p[s] * (1 + error)) - weight(c, p[s] * (1 - error));
                // Half of what lies between codes about p, which is more than of a multiple of it.
                const double step = std::max(0x1p-4 * p[s], 0x1p-18);
                for (std::int64_t i = 0; i < c.d; ++i) {
                    const double value = std::abs(v[at(s) + i]) / sum;
                    r.turns[q + i] += turn * value;
                    r.steps[q + i] += step * value;
                    r.step_walks[q + i] += step * value * step * value;
                }
            }
        }
    }
    for (double& x : r.walks) x = std::sqrt(x);
    for (double& x : r.step_walks) x = std::sqrt(x);
    return r;
}

void expect_agrees(const PagedCase& c, const HostTensor& got, const PagedOracle& want,
                   std::string_view kernel) {
    const double sums = error_of_sums(c);
    // What becomes of a probability in the second product. In bf16: six deviations of their errors.
    // In codes: where all scores are known before, codes differ only by errors in f32; else both
    // codes, ours and the definition's, are off by up to half a step, and by 0.58 of that in their
    // deviation, of which six are allowed.
    const auto weights = [&](std::size_t i) {
        if (c.fp8 != Fp8::products) {
            return on_cuda() && kernel != "rows" ? 2 * rounding(Dtype::bf16) * want.walks[i] : 0;
        }
        return on_cuda() ? std::min(2 * want.steps[i], 4.9 * want.step_walks[i]) : want.turns[i];
    };
    ASSERT_EQ(got.values.size(), want.o.size());
    for (std::size_t i = 0; i < want.o.size(); ++i) {
        ASSERT_NEAR(got.values[i], want.o[i],
                    rounding(c.dtype) * std::abs(want.o[i]) + sums * want.sizes[i] + weights(i) +
                        (c.dtype == Dtype::f16 ? 0x1p-25 : 0))
            << "element " << i;
    }
}

class PagedAttentionTest : public testing::TestWithParam<PagedCase> {};

TEST_P(PagedAttentionTest, EveryKernelAgreesWithSumsInF64) {
    const PagedCase& c = GetParam();
    const std::vector<HostTensor> in = operands(c);
    const PagedOracle want = oracle(c, in);
    const auto names = for_each_kernel(
        c.op(), in, [&](std::string_view kernel, const std::vector<HostTensor>& out) {
            expect_agrees(c, out[0], want, kernel);
        });
    EXPECT_EQ(names.back(), "rows");
    const bool cores = on_cuda() && c.dtype == Dtype::bf16 && (c.d == 64 || c.d == 128);
    EXPECT_EQ(names.size(), cores ? 2u : 1u);
    EXPECT_EQ(names[0], !cores ? "rows" : c.decode ? "decode" : "prefill");
}

std::vector<PagedCase> cases() {
    // One row per sequence: about the ends of blocks, unused, past the table.
    const Rows decode{{0, 0}, {3, 14}, {1, 15}, {0, -1}, {2, 16}, {4, 60}, {5, 5000}};
    // Chunks of prompts: longer than a tile of rows, and short; in the middle of a sequence and
    // at its beginning. Beside them rows of others, as in decoding.
    Rows mixed{{3, 70}, {0, -1}};
    for (int i = 0; i < 37; ++i) mixed.push_back({1, 20 + i});
    for (int i = 0; i < 5; ++i) mixed.push_back({2, i});
    mixed.push_back({0, 77});
    for (int i = 0; i < 90; ++i) mixed.push_back({4, i});
    mixed.insert(mixed.end(), {{5, 95}, {5, 96}, {6, 31}, {0, -1}, {0, -1}});
    // Positions in no order, and more rows on their own than there are sequences.
    const Rows orderless{{1, 30}, {1, 7},  {1, -1}, {0, 3},  {1, 31}, {1, 64}, {0, 2},
                         {1, 3},  {0, 50}, {1, 60}, {0, -1}, {1, 1},  {1, 0}};

    std::vector<PagedCase> all;
    const auto add = [&](std::int64_t h, std::int64_t g, std::int64_t d, Dtype dtype,
                         const Rows& rows, bool of_decode, std::int64_t table = 6) {
        for (const Fp8 fp8 : kFp8) all.push_back({h, g, d, dtype, fp8, rows, of_decode, table});
    };
    for (const Dtype dtype : kPlainDtypes) {
        for (const std::int64_t d : {64, 128, 80}) {
            add(2, 2, d, dtype, decode, true);
            add(8, 2, d, dtype, decode, true);
            add(8, 1, d, dtype, decode, true);
            add(4, 2, d, dtype, mixed, false);
        }
        add(3, 1, 16, dtype, orderless, false);
    }
    for (const std::int64_t d : {64, 128}) {
        for (const std::int64_t group : {2, 3, 7, 16}) {
            add(2 * group, 2, d, Dtype::bf16, decode, true);
        }
        for (const std::int64_t group : {1, 7}) add(group, 1, d, Dtype::bf16, mixed, false);
        add(16, 1, d, Dtype::bf16, orderless, false);
        add(4, 1, d, Dtype::bf16, orderless, false);
        add(4, 1, d, Dtype::bf16, orderless, true);
    }
    // Long sequences: many splits of keys in decoding, many tiles of them in a prompt.
    const Rows far{{0, 254}, {1, 255}, {2, 256}, {3, 1023}, {4, 2999}, {5, 511}, {6, 512}};
    Rows chunks;
    for (int i = 0; i < 40; ++i) chunks.push_back({0, 1000 + i});
    for (int i = 0; i < 3; ++i) chunks.push_back({1, 2997 + i});
    chunks.insert(chunks.end(), {{2, 1023}, {3, 254}, {4, 255}});
    for (const std::int64_t d : {64, 128}) {
        add(4, 1, d, Dtype::bf16, far, true, 188);
        add(4, 1, d, Dtype::bf16, chunks, false, 188);
    }
    add(8, 1, 128, Dtype::bf16, {{0, 2999}, {1, 8000}, {2, 4095}}, true, 600);
    add(2, 1, 80, Dtype::f32, far, true, 188);
    return all;
}

INSTANTIATE_TEST_SUITE_P(All, PagedAttentionTest, testing::ValuesIn(cases()));

TEST(PagedAttention, UnusedRowsAreZero) {
    for (const bool decode : {false, true}) {
        for (const Fp8 fp8 : kFp8) {
            const PagedCase c{4, 2, 64, Dtype::bf16, fp8, {{0, -1}, {0, 3}}, decode};
            for_each_kernel(c.op(), operands(c), [&](const std::vector<HostTensor>& out) {
                for (std::size_t i = 0; i < 256; ++i) {
                    EXPECT_EQ(out[0].values[i], 0);
                    EXPECT_NE(out[0].values[256 + i], 0);
                }
            });
        }
    }
}

TEST(PagedAttention, OfNothing) {
    for (const bool decode : {false, true}) {
        PagedCase c{4, 2, 64, Dtype::bf16, Fp8::no, {{0, 3}}, decode};
        std::vector<HostTensor> in = operands(c);
        const Shape none = decode ? Shape{0, 1} : Shape{1, 0};
        in[0] = tensor(c.dtype, {none[0], none[1], c.h, c.d}, {});
        in[3] = in[4] = tensor(Dtype::i32, none, {});
        for_each_kernel(c.op(), in, [&](const std::vector<HostTensor>& out) {
            EXPECT_TRUE(out[0].values.empty());
        });
    }
}

// Scores far beyond what e^x holds.
TEST(PagedAttention, LargeScoresDoNotOverflow) {
    for (const bool decode : {false, true}) {
        const PagedCase c{4, 2, 64, Dtype::bf16, Fp8::no, {{0, 90}, {1, 64}}, decode};
        std::vector<HostTensor> in = operands(c);
        std::vector<double> q = in[0].values;
        for (double& x : q) x *= 256;
        in[0] = tensor(c.dtype, in[0].type.shape, q);
        const PagedOracle want = oracle(c, in);
        for_each_kernel(c.op(), in, [&](const std::vector<HostTensor>& out) {
            expect_close(out[0], want.o, 2 * rounding(Dtype::bf16) + 1e-3);
        });
    }
}

// Bit for bit, in each kernel. With several rows in a call, those that have neighbours of their
// sequence may be computed otherwise than those that have none.
TEST(PagedAttention, RowsDoNotDependOnEachOther) {
    Rows rows{{0, 3}, {1, 700}, {1, 701}, {1, -1}, {1, 40}, {2, 511}, {3, 512}, {3, 513}};
    for (int i = 0; i < 50; ++i) rows.push_back({4, 200 + i});
    for (const bool decode : {false, true}) {
        for (const Fp8 fp8 : kFp8) {
            const PagedCase c{8, 2, 64, Dtype::bf16, fp8, rows, decode, 48};
            const std::vector<HostTensor> in = operands(c);
            std::vector<HostTensor> all;
            for_each_kernel(c.op(), in,
                            [&](const std::vector<HostTensor>& out) { all.push_back(out[0]); });
            // Two, since a call with one row is one of decoding.
            const std::size_t taken = decode ? 1 : 2, elements = 8 * 64;
            for (const std::size_t row : {0, 1, 2, 4, 6, 30}) {
                if (!decode && rows[row].sequence != rows[row + 1].sequence) continue;
                const auto expect_same_rows = [&](const std::vector<HostTensor>& other,
                                                  std::size_t at) {
                    std::size_t kernel = 0;
                    for_each_kernel(c.op(), other, [&](const std::vector<HostTensor>& out) {
                        for (std::size_t i = 0; i < taken * elements; ++i) {
                            EXPECT_EQ(out[0].values[at * elements + i],
                                      all[kernel].values[row * elements + i])
                                << "row " << row << ", element " << i;
                        }
                        ++kernel;
                    });
                };
                if (decode) {
                    // Beside rows of other texts, longer, shorter and unused ones.
                    std::vector<double> q = in[0].values, positions = in[3].values;
                    for (std::size_t i = 0; i < rows.size(); ++i) {
                        if (i == row) continue;
                        for (std::size_t e = 0; e < elements; ++e) q[i * elements + e] *= -0.5;
                        const std::size_t keys =
                            static_cast<std::size_t>(c.written(rows[i].sequence));
                        positions[i] = static_cast<double>((i * 97 + 5) % (keys + 1)) - 1;
                    }
                    std::vector<HostTensor> others = in;
                    others[0] = tensor(c.dtype, in[0].type.shape, q);
                    others[3] = tensor(Dtype::i32, in[3].type.shape, positions);
                    expect_same_rows(others, row);
                    continue;
                }
                // In a shorter prompt. (Decoding splits rows by how many a call has.)
                const std::int64_t n = static_cast<std::int64_t>(taken);
                std::vector<HostTensor> few = in;
                const auto part = [&](std::size_t operand, const Shape& to, std::size_t each) {
                    const auto from = in[operand].values.begin() + row * each;
                    few[operand] = tensor(in[operand].type.dtype, to, {from, from + taken * each});
                };
                part(0, {1, n, 8, 64}, elements);
                part(3, {1, n}, 1);
                part(4, {1, n}, 1);
                expect_same_rows(few, 0);
            }
        }
    }
}

TEST(PagedAttention, OfAGraphMayOverwriteItsQuery) {
    for (const bool decode : {false, true}) {
        for (const Fp8 fp8 : kFp8) {
            const PagedCase c{4, 2, 64, Dtype::bf16, fp8, {{0, 3}, {1, 70}, {1, 71}}, decode};
            const auto of_a_copy = [&](Builder& b, Values in) {
                in[0] = b.one(Concat{}, {in[0]});
                return b.emit(c.op(), in);
            };
            const auto in = operands(c);
            expect_identical(run(of_a_copy, in)[0], run(as_is(c.op()), in)[0]);
        }
    }
}

// One key of 2048 has a probability 2^11 times that of each other: their codes, of 256 times them,
// are exact, and codes of them alone would be zero.
TEST(PagedAttention, SmallProbabilitiesHaveCodes) {
    constexpr std::int64_t kKeys = 2048, kElements = 64;
    for (const bool decode : {false, true}) {
        for (const std::int64_t large : {std::int64_t{0}, kKeys / 2, kKeys - 1}) {
            SCOPED_TRACE(large);
            PagedCase c{1, 1, kElements, Dtype::bf16, Fp8::products, {}, decode, 128};
            c.rows = {{0, kKeys - 1}, {0, kKeys - 1}};
            std::vector<HostTensor> in = operands(c);
            std::vector<double> q(2 * kElements), k = in[1].values, v = in[2].values;
            q[0] = q[kElements] = 448 * kScaleOfQ;
            for (std::int64_t s = 0; s < kKeys; ++s) {
                for (std::int64_t i = 0; i < kElements; ++i) {
                    k[c.slot(0, s) * kElements + i] = 0;
                    v[c.slot(0, s) * kElements + i] = s == large ? 0 : 8;
                }
            }
            k[c.slot(0, large) * kElements] = 256;
            // As q and k make it: log(2^11) = score.
            const double score = 448 * 256 * double{kScaleOfQ} * double{kScaleOfK} * c.op().scale;
            const double wanted = 11 * std::log(2.0) / score;
            in[0] = tensor(c.dtype, in[0].type.shape, q);
            in[1] = tensor(Dtype::e4m3, in[1].type.shape, k);
            in[2] = tensor(Dtype::e4m3, in[2].type.shape, v);
            in[6] = scalar(kScaleOfK * wanted);
            const double small = (kKeys - 1) * 0x1p-11;
            const std::vector<double> want(2 * kElements, 8 * kScaleOfV * small / (1 + small));
            for_each_kernel(c.op(), in, [&](const std::vector<HostTensor>& out) {
                expect_close(out[0], want, 2 * rounding(Dtype::bf16));
            });
        }
    }
}

TEST(PagedAttention, RefusesOtherTypes) {
    const Type q{Dtype::bf16, {1, 3, 4, 8}}, pool{Dtype::bf16, {32, 2, 8}};
    const Type codes{Dtype::e4m3, {32, 2, 8}}, rows{Dtype::i32, {1, 3}};
    const Type tables{Dtype::i32, {2, 4}}, one{Dtype::f32, {1}};
    const auto refused = [&](const Types& in) { return refusal(as_is(PagedAttention{}), in); };
    const Type heads{Dtype::bf16, {32, 3, 8}}, ragged{Dtype::bf16, {40, 2, 8}};
    EXPECT_EQ(refused({q, heads, heads, rows, rows, tables}),
              "paged_attention: the number of query heads must be a multiple of that of key heads, "
              "got 4 and 3");
    EXPECT_EQ(refused({q, ragged, ragged, rows, rows, tables}),
              "paged_attention: expected a pool of whole blocks of 16, got 40 slots");
    const Type narrow{Dtype::bf16, {32, 2, 4}};
    EXPECT_EQ(refused({q, narrow, narrow, rows, rows, tables}),
              "paged_attention: operand 1 must have shape [32, 2, 8], got bf16[32, 2, 4]");
    EXPECT_EQ(refused({q, pool, codes, rows, rows, tables}),
              "paged_attention: operands 1 and 2 must have the same type, got bf16[32, 2, 8] and "
              "e4m3[32, 2, 8]");
    EXPECT_EQ(refused({q, pool, pool, tables, rows, tables}),
              "paged_attention: operand 3 must have shape [1, 3], got i32[2, 4]");
    EXPECT_EQ(refused({q, codes, codes, rows, rows, tables}),
              "paged_attention: operand 1 must be unscaled bf16, got e4m3[32, 2, 8]");
    EXPECT_EQ(refused({q, pool, pool, rows, rows, tables, one, one}),
              "paged_attention: operand 1 must be unscaled e4m3, got bf16[32, 2, 8]");
    EXPECT_EQ(refused({q, pool, pool, rows, rows, tables, one}),
              "paged_attention: k and v have a scale each, got 7 operands");
    EXPECT_EQ(refused({q, pool, pool, rows, rows, tables, one, one, one}),
              "paged_attention: operand 1 must be unscaled e4m3, got bf16[32, 2, 8]");
    EXPECT_EQ(refused({q, codes, codes, rows, rows, tables, one, one, rows}),
              "paged_attention: operand 8 must be unscaled f32, got i32[1, 3]");
}

}  // namespace
}  // namespace octavo::test
