#include "base/sample.h"

#include <numeric>

#include "base/sample_rule.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

// How the token of a row is drawn.
struct How {
    double temperature = 1;
    std::int64_t top_k = 0;
    double top_p = 1;
    std::uint32_t random = 0;
    std::int64_t given = -1;
    std::int64_t ids = 0;  // 0: all
};

struct Tokens {
    std::vector<double> ids, log_probabilities;
};

constexpr double kTolerance = 1e-6;

std::vector<HostTensor> operands(const HostTensor& logits, const std::vector<How>& rows) {
    std::vector<double> reals, integers;
    for (const How& how : rows) {
        reals.insert(reals.end(), {how.temperature, how.top_p});
        const std::int64_t ids = how.ids > 0 ? how.ids : logits.type.shape[1];
        for (const std::int64_t i :
             {how.top_k, ids, std::int64_t{std::bit_cast<std::int32_t>(how.random)}, how.given}) {
            integers.push_back(static_cast<double>(i));
        }
    }
    const auto n = std::ssize(rows);
    return {logits, tensor(Dtype::f32, {n, 2}, reals), tensor(Dtype::i32, {n, 4}, integers)};
}

// check(tokens, log-probabilities) of each kernel.
template <class Check>
void for_each_draw(const HostTensor& logits, const std::vector<How>& rows, Check&& check) {
    const auto names = for_each_kernel(
        Sample{}, operands(logits, rows),
        [&](const std::vector<HostTensor>& out) { check(out[0].values, out[1].values); });
    EXPECT_FALSE(names.empty());
}

void expect_draws(const HostTensor& logits, const std::vector<How>& rows, const Tokens& want) {
    for_each_draw(
        logits, rows, [&](const std::vector<double>& ids, const std::vector<double>& logs) {
            EXPECT_EQ(ids, want.ids);
            for (std::size_t r = 0; r < rows.size(); ++r) {
                const double w = want.log_probabilities[r];
                if (std::isnan(w)) {
                    EXPECT_TRUE(std::isnan(logs[r])) << "row " << r << ": " << logs[r];
                } else if (std::isinf(w)) {
                    EXPECT_EQ(logs[r], w) << "row " << r;
                } else {
                    EXPECT_NEAR(logs[r], w, kTolerance * std::max(1.0, std::abs(w))) << "row " << r;
                }
            }
        });
}

// One row's logits for all rows.
HostTensor repeated(const std::vector<double>& row, std::size_t rows) {
    std::vector<double> all;
    for (std::size_t r = 0; r < rows; ++r) all.insert(all.end(), row.begin(), row.end());
    return tensor(Dtype::f32, {static_cast<std::int64_t>(rows), std::ssize(row)}, all);
}

// ---- By the definition, in f64, with everything sorted -----------------------------------------

struct Kept {
    std::vector<std::size_t> order;  // by rank
    std::vector<double> p;           // by id, 0 where cut
};

Kept distribution(const double* logits, std::size_t n, const How& how) {
    std::vector<double> z(n);
    for (std::size_t i = 0; i < n; ++i) {
        const auto x = static_cast<float>(logits[i]);
        z[i] = how.temperature == 0 ? x : x / static_cast<float>(how.temperature);
    }
    const bool cuts = how.temperature != 0;
    Kept kept{.order = std::vector<std::size_t>(n), .p = std::vector<double>(n, 0.0)};
    std::iota(kept.order.begin(), kept.order.end(), 0);
    std::ranges::stable_sort(kept.order, [&](auto a, auto b) { return z[a] > z[b]; });
    std::size_t count = n;
    if (cuts && how.top_k > 0 && how.top_k < std::ssize(z)) {
        count = static_cast<std::size_t>(how.top_k);
        const double least = z[kept.order[count - 1]];
        while (count < n && z[kept.order[count]] == least) ++count;
    }
    const auto weight = [&](std::size_t rank) {
        return std::exp(z[kept.order[rank]] - z[kept.order[0]]);
    };
    if (cuts && how.top_p < 1) {
        double all = 0, better = 0;
        for (std::size_t j = 0; j < count; ++j) all += weight(j);
        std::size_t within = 0;
        for (; within < count && better < double(float(how.top_p)) * all; ++within) {
            better += weight(within);
        }
        count = within;
    }
    kept.order.resize(count);
    double sum = 0;
    for (std::size_t j = 0; j < count; ++j) sum += weight(j);
    for (std::size_t j = 0; j < count; ++j) kept.p[kept.order[j]] = weight(j) / sum;
    return kept;
}

Tokens oracle(const HostTensor& logits, const std::vector<How>& rows) {
    Tokens want;
    const auto v = static_cast<std::size_t>(logits.type.shape[1]);
    for (std::size_t r = 0; r < rows.size(); ++r) {
        const How& how = rows[r];
        const std::size_t n = how.ids > 0 ? static_cast<std::size_t>(how.ids) : v;
        const Kept kept = distribution(&logits.values[r * v], n, how);
        std::size_t token = kept.order[0];
        if (how.given >= 0) {
            token = static_cast<std::size_t>(how.given);
        } else if (how.temperature > 0) {
            const double u = (static_cast<double>(how.random >> 8) + 0.5) * 0x1p-24;
            double running = kept.p[0];
            for (token = 0; running <= u;) running += kept.p[++token];
        }
        want.ids.push_back(static_cast<double>(token));
        want.log_probabilities.push_back(token < n ? std::log(kept.p[token]) : -kInf);
    }
    return want;
}

void check_against_oracle(const HostTensor& logits, const std::vector<How>& rows) {
    expect_draws(logits, rows, oracle(logits, rows));
}

std::uint32_t bits(std::size_t position) {
    return sample_bits(11, 5, 2, static_cast<std::uint32_t>(position));
}

// ---- Known answers -----------------------------------------------------------------------------

TEST(Sample, KnownAnswers) {
    struct Case {
        How how;
        std::vector<double> ids;
    };
    const Case cases[] = {
        {{}, {5, 2, 1, 5, 1, 5}},
        {{.temperature = 0.6}, {5, 4, 1, 5, 1, 5}},
        {{.top_k = 2}, {5, 5, 1, 5, 1, 5}},
        {{.top_k = 3}, {5, 1, 1, 5, 1, 5}},
        {{.top_p = 0.8}, {5, 1, 1, 5, 1, 5}},
        {{.temperature = 0.7, .top_k = 4, .top_p = 0.9}, {5, 5, 1, 5, 1, 5}},
    };
    const double of_best[] = {-1.0210586, -0.8387064, -0.6931472,
                              -0.8619948, -0.8619948, -0.8063201};
    const double of_others[] = {-2.5210586, -4.1720395};  // ids 2 and 4, in the first two cases
    const HostTensor logits = repeated({1, 2, 0.5, -1, 0, 2}, 6);
    for (std::size_t c = 0; c < std::size(cases); ++c) {
        SCOPED_TRACE(c);
        Tokens want{cases[c].ids, {}};
        std::vector<How> rows(6, cases[c].how);
        for (std::size_t r = 0; r < rows.size(); ++r) {
            rows[r].random = sample_bits(1234, 7, 3, static_cast<std::uint32_t>(r));
            const bool best = want.ids[r] == 1 || want.ids[r] == 5;
            want.log_probabilities.push_back(best ? of_best[c] : of_others[c]);
        }
        expect_draws(logits, rows, want);
        check_against_oracle(logits, rows);
    }
}

// What a cut keeps: the log-probability of every id, given.
std::vector<double> scores(const std::vector<double>& row, How how) {
    std::vector<double> kept;
    std::vector<How> rows;
    for (std::size_t i = 0; i < row.size(); ++i) {
        how.given = static_cast<std::int64_t>(i);
        rows.push_back(how);
    }
    const HostTensor logits = repeated(row, row.size());
    check_against_oracle(logits, rows);
    for_each_draw(logits, rows,
                  [&](const std::vector<double>& ids, const std::vector<double>& logs) {
                      for (std::size_t i = 0; i < row.size(); ++i) EXPECT_EQ(ids[i], i);
                      kept = logs;
                  });
    return kept;
}

std::vector<int> kept_ids(const std::vector<double>& row, const How& how) {
    std::vector<int> ids;
    const auto logs = scores(row, how);
    for (std::size_t i = 0; i < logs.size(); ++i) {
        if (logs[i] > -kInf) ids.push_back(static_cast<int>(i));
    }
    return ids;
}

using Ids = std::vector<int>;

TEST(Sample, TopKKeepsTiesAtItsBorder) {
    const std::vector<double> row{1, 3, 2, 2, 0, 2, -1};
    EXPECT_EQ(kept_ids(row, {.top_k = 1}), (Ids{1}));
    EXPECT_EQ(kept_ids(row, {.top_k = 2}), (Ids{1, 2, 3, 5}));
    EXPECT_EQ(kept_ids(row, {.top_k = 4}), (Ids{1, 2, 3, 5}));
    EXPECT_EQ(kept_ids(row, {.top_k = 5}), (Ids{0, 1, 2, 3, 5}));
    EXPECT_EQ(kept_ids(row, {.top_k = 7}), (Ids{0, 1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(kept_ids(row, {.top_k = 100}), (Ids{0, 1, 2, 3, 4, 5, 6}));
    // 0 and -0 are equal.
    EXPECT_EQ(kept_ids({-0.0, -1, 0.0, -2}, {.top_k = 1}), (Ids{0, 2}));
    // Neighbours before the division, equal after it.
    const double above = 1.5 + 0x1p-23;
    ASSERT_EQ(1.5f / 1.25f, static_cast<float>(above) / 1.25f);
    EXPECT_EQ(kept_ids({1.5, above, 0}, {.temperature = 1, .top_k = 1}), (Ids{1}));
    EXPECT_EQ(kept_ids({1.5, above, 0}, {.temperature = 1.25, .top_k = 1}), (Ids{0, 1}));
}

TEST(Sample, TopPKeepsWhatIsRankedBelowIt) {
    // A quarter each: the fourth has 3/4 before it, which is not below 3/4.
    EXPECT_EQ(kept_ids({2, 2, 2, 2}, {.top_p = 0.75}), (Ids{0, 1, 2}));
    EXPECT_EQ(kept_ids({2, 2, 2, 2}, {.top_p = 0.7500001}), (Ids{0, 1, 2, 3}));
    EXPECT_EQ(kept_ids({2, 2, 2, 2}, {.top_p = 0.5}), (Ids{0, 1}));
    EXPECT_EQ(kept_ids({2, 2, 2, 2}, {.top_p = 1e-30}), (Ids{0}));
    EXPECT_EQ(kept_ids({0, 5, 5, 1, 5}, {.top_p = 0.4}), (Ids{1, 2}));
    EXPECT_EQ(kept_ids({0, 5, 5, 1, 5}, {.top_p = 0.999999}), (Ids{0, 1, 2, 3, 4}));
    // The mass is that of what top-k left: 1/3 and 2/3 are below 0.7, though the row is long.
    EXPECT_EQ(kept_ids({1, 1, 0, 0, 0, 0, 0, 0, 1}, {.top_k = 3, .top_p = 0.7}), (Ids{0, 1, 8}));
    EXPECT_EQ(kept_ids({1, 1, 0, 0, 0, 0, 0, 0, 1}, {.top_k = 3, .top_p = 0.6}), (Ids{0, 1}));
    // At 1 nothing is cut, however unlikely it is.
    EXPECT_EQ(kept_ids({-80, 30, -90}, {.top_p = 1}), (Ids{0, 1, 2}));
}

TEST(Sample, WithoutTemperatureTheMostLikely) {
    const HostTensor logits =
        tensor(Dtype::f32, {4, 5}, {1,    3, 3,  2,  3, -5, -7, -6, -5, -9,  //
                                    -0.0, 0, -1, -2, 0, 4,  4,  4,  4,  4});
    const std::vector<How> rows(4, {.temperature = 0, .top_k = 2, .top_p = 0.1, .random = ~0u});
    const Tokens want = oracle(logits, rows);
    EXPECT_EQ(want.ids, (std::vector<double>{1, 0, 0, 0}));
    EXPECT_NEAR(want.log_probabilities[3], -std::log(5.0), 1e-12);
    expect_draws(logits, rows, want);
    // A given token is scored by the model's distribution, too.
    EXPECT_EQ(kept_ids({1, 3, 2}, {.temperature = 0, .top_k = 1, .top_p = 0.1}), (Ids{0, 1, 2}));
}

TEST(Sample, PaddingIsNotThere) {
    HostTensor logits = random_tensor(Dtype::f32, {64, 40}, 3);
    std::vector<double> values = logits.values;
    std::vector<How> rows;
    for (std::size_t r = 0; r < 64; ++r) {
        const std::size_t ids = 1 + r % 39;
        for (std::size_t i = ids; i < 40; ++i) values[r * 40 + i] = i % 3 ? 100 : kNan;
        rows.push_back({.temperature = static_cast<double>(r % 5) * 0.4,
                        .top_k = static_cast<std::int64_t>(r % 4) * 3,
                        .top_p = r % 2 ? 1 : 0.9,
                        .random = r < 32 ? ~0u : bits(r),
                        .ids = static_cast<std::int64_t>(ids)});
    }
    logits = tensor(Dtype::f32, {64, 40}, values);
    check_against_oracle(logits, rows);
    for_each_draw(logits, rows, [&](const std::vector<double>& ids, const auto&) {
        for (std::size_t r = 0; r < 64; ++r) EXPECT_LT(ids[r], rows[r].ids);
    });
    // A padding id, or none at all, scores as what cannot be drawn.
    rows.assign(64, {.given = 39, .ids = 39});
    for (std::size_t r = 0; r < 64; ++r) rows[r].given += static_cast<std::int64_t>(r);
    for (double& x : values) x = std::isnan(x) ? 0 : x;
    check_against_oracle(tensor(Dtype::f32, {64, 40}, values), rows);
}

TEST(Sample, RowsThatAreNotFiniteHaveNoToken) {
    constexpr std::size_t kV = 1003;
    HostTensor logits = random_tensor(Dtype::f32, {12, kV}, 8);
    std::vector<double> values = logits.values;
    const double bad[] = {kNan, kInf, -kInf};
    const std::size_t places[] = {0, 501, kV - 1};
    std::vector<How> rows;
    for (std::size_t r = 0; r < 12; ++r) {
        if (r % 4 != 3) values[r * kV + places[r % 4]] = bad[r / 4];
        rows.push_back({.temperature = r % 2 ? 1.0 : 0.5, .random = bits(r)});
    }
    rows[1].given = 7;
    rows[2].temperature = 0;
    rows[5].top_k = 4;
    rows[6].top_p = 0.5;
    Tokens want = oracle(logits, rows);
    for (std::size_t r = 0; r < 12; ++r) {
        if (r % 4 == 3) continue;
        want.ids[r] = -1;
        want.log_probabilities[r] = kNan;
    }
    expect_draws(tensor(Dtype::f32, {12, kV}, values), rows, want);
    // A temperature so low that the largest logit over it is no number any more; one over which
    // only others are none; and temperatures that are none themselves.
    const HostTensor few = repeated({1, 2, -3e5}, 5);
    rows = {{.temperature = 1e-39},
            {.temperature = 1e-34},
            {.temperature = kNan},
            {.temperature = -1},
            {.temperature = kInf, .random = ~0u}};
    expect_draws(few, rows, {{-1, 1, -1, -1, 2}, {kNan, 0, kNan, kNan, -std::log(3.0)}});
}

// ---- Against the oracle ------------------------------------------------------------------------

std::vector<How> assorted(std::size_t rows, std::int64_t v) {
    std::vector<How> all;
    for (std::size_t r = 0; r < rows; ++r) {
        How how{.random = bits(r)};
        switch (r % 8) {
            case 1:
                how = {.temperature = 0.7, .random = bits(r)};
                break;
            case 2:
                how = {.temperature = 0};
                break;
            case 3:
                how = {.top_k = 50, .random = bits(r)};
                break;
            case 4:
                how = {.temperature = 1.3, .top_p = 0.95, .random = bits(r)};
                break;
            case 5:
                how = {.temperature = 0.6, .top_k = 20, .top_p = 0.8, .random = bits(r)};
                break;
            case 6:
                how = {.temperature = 0.9, .top_k = v / 2, .top_p = 0.999, .random = bits(r)};
                break;
            case 7:
                how = {.random = bits(r), .ids = v - v / 3};
                break;
            default:
                break;
        }
        if (r % 5 == 4) how.given = static_cast<std::int64_t>(r * 7919) % v;
        all.push_back(how);
    }
    return all;
}

// Rows of an odd length do not begin at multiples of 16 bytes.
TEST(Sample, MatchesItsDefinition) {
    for (const auto& [rows, v] : {std::array<std::int64_t, 2>{0, 5},
                                  {3, 1},
                                  {40, 2},
                                  {40, 3},
                                  {40, 7},
                                  {40, 256},
                                  {40, 1001},
                                  {16, 5027},
                                  {16, 32000},
                                  {16, 50257}}) {
        SCOPED_TRACE(v);
        const HostTensor logits = random_tensor(Dtype::f32, {rows, v}, 4, 2.5);
        check_against_oracle(logits, assorted(static_cast<std::size_t>(rows), v));
    }
}

TEST(Sample, MatchesItsDefinitionOnLargeVocabularies) {
    check_against_oracle(random_tensor(Dtype::f32, {8, 151936}, 5, 3), assorted(8, 151936));
    check_against_oracle(random_tensor(Dtype::f32, {8, 262144}, 6, 0.1), assorted(8, 262144));
}

// Logits of few values: ties everywhere.
TEST(Sample, MatchesItsDefinitionAmongTies) {
    HostTensor logits = random_tensor(Dtype::f32, {64, 3001}, 7, 1.5);
    std::vector<double> values = logits.values;
    for (double& x : values) x = std::round(x);
    logits = tensor(Dtype::f32, logits.type.shape, values);
    std::vector<How> rows;
    for (std::size_t r = 0; r < 64; ++r) {
        rows.push_back({.temperature = 1,
                        .top_k = r % 2 ? static_cast<std::int64_t>(10 * r) : 0,
                        .top_p = static_cast<double>(r + 1) / 65,
                        .random = bits(r)});
    }
    check_against_oracle(logits, rows);
}

TEST(Sample, EndsOfTheRandomRange) {
    const HostTensor logits = random_tensor(Dtype::f32, {4, 2003}, 9);
    const std::vector<How> rows{
        {.random = 0}, {.random = ~0u}, {.top_p = 0.5, .random = 0}, {.top_k = 3, .random = ~0u}};
    check_against_oracle(logits, rows);
    const Tokens want = oracle(logits, rows);
    EXPECT_EQ(want.ids[0], 0);
    EXPECT_EQ(want.ids[1], 2002);
}

// u is 1 - 2^-25 here, and u (2^44 + m) exceeds the first id's mass of 2^44 from m = 2^19 + 1 on.
TEST(Sample, RunningSumsAreExact) {
    constexpr std::size_t kV = 2003;
    float below = -17.32f;
    while (mass_of(below, 0) > Mass{1} << 19) below = std::nextafter(below, -100.0f);
    const float above = std::nextafter(below, 0.0f);
    ASSERT_EQ(mass_of(above, 0), (Mass{1} << 19) + 1);
    for (const std::size_t place : {std::size_t{1}, kV - 1}) {
        std::vector<double> values(2 * kV, -1000.0);
        values[0] = values[kV] = 0;
        values[place] = below;
        values[kV + place] = above;
        for_each_draw(tensor(Dtype::f32, {2, kV}, values), {{.random = ~0u}, {.random = ~0u}},
                      [&](const std::vector<double>& ids, const auto&) {
                          EXPECT_EQ(ids, (std::vector<double>{0, static_cast<double>(place)}));
                      });
    }
}

TEST(Sample, RowsDoNotDependOnEachOther) {
    constexpr std::int64_t kRows = 24, kV = 2005;
    const HostTensor logits = random_tensor(Dtype::f32, {kRows, kV}, 12, 2);
    const auto rows = assorted(kRows, kV);
    const auto row_of = [&](std::int64_t r) {
        const auto* first = logits.values.data() + r * kV;
        return tensor(Dtype::f32, {1, kV}, {first, first + kV});
    };
    for_each_draw(logits, rows,
                  [&](const std::vector<double>& ids, const std::vector<double>& logs) {
                      for (std::int64_t r = 0; r < kRows; ++r) {
                          const auto i = static_cast<std::size_t>(r);
                          const auto alone = run(as_is(Sample{}), operands(row_of(r), {rows[i]}));
                          EXPECT_EQ(alone[0].values[0], ids[i]) << "row " << r;
                          EXPECT_EQ(alone[1].values[0], logs[i]) << "row " << r;
                      }
                  });
    expect_same_on_any_threads(as_is(Sample{}), operands(logits, rows));
}

// ---- Frequencies -------------------------------------------------------------------------------

TEST(Sample, FrequenciesFollowTheDistribution) {
    constexpr std::size_t kDraws = 20000;
    const std::vector<double> row{0.3, -1, 1.1, 0.4, -0.2, 2, -3, 0.9};
    const HostTensor logits = repeated(row, kDraws);
    for (const How& how :
         {How{}, {.temperature = 0.8, .top_k = 6, .top_p = 0.9}, {.temperature = 2, .ids = 7}}) {
        std::vector<How> rows(kDraws, how);
        for (std::size_t r = 0; r < kDraws; ++r) {
            rows[r].random = sample_bits(99, r / 100, 1, static_cast<std::uint32_t>(r % 100));
        }
        const std::size_t n = how.ids > 0 ? static_cast<std::size_t>(how.ids) : row.size();
        const Kept kept = distribution(row.data(), n, how);
        for_each_draw(logits, rows, [&](const std::vector<double>& ids, const auto&) {
            std::vector<double> seen(row.size());
            for (double id : ids) ++seen[static_cast<std::size_t>(id)];
            double chi_square = 0;
            for (std::size_t i = 0; i < row.size(); ++i) {
                const double expected = i < n ? kDraws * kept.p[i] : 0;
                if (expected == 0) {
                    EXPECT_EQ(seen[i], 0) << "id " << i;
                } else {
                    chi_square += (seen[i] - expected) * (seen[i] - expected) / expected;
                }
            }
            EXPECT_LT(chi_square, 24.3);  // one in 1000 with 7 degrees of freedom, fewer with less
        });
    }
}

TEST(Sample, RefusesOtherOperands) {
    const Type logits{Dtype::f32, {3, 8}}, reals{Dtype::f32, {3, 2}}, integers{Dtype::i32, {3, 4}};
    EXPECT_EQ(refusal(as_is(Sample{}), {logits, reals, integers}), "accepted");
    EXPECT_NE(refusal(as_is(Sample{}), {{Dtype::bf16, {3, 8}}, reals, integers}), "accepted");
    EXPECT_NE(refusal(as_is(Sample{}), {logits, {Dtype::f32, {3, 3}}, integers}), "accepted");
    EXPECT_EQ(refusal(as_is(Sample{}), {{Dtype::f32, {3, kMostLogits + 1}}, reals, integers}),
              "sample: expected at most 524288 logits a row, got 524289");
}

}  // namespace
}  // namespace octavo::test
