#include "passes/fuse.h"

#include "passes/schedule.h"
#include "passes/simplify.h"
#include "runtime/run_graph.h"

namespace octavo {
namespace {

using test::count;

// Terms of a dot product of `k` f32 terms, added in any order.
double sum_tolerance(int k) { return 2.0 * k * 0x1p-24; }

struct Built {
    Graph g;
    Builder b{g};

    Value matrix(const char* name, std::int64_t m, std::int64_t n) {
        return b.input(name, {Dtype::f32, {m, n}});
    }
    Value wgrad(Value dy, Value x, MatmulKind kind = MatmulKind::wgrad) {
        return b.one(Matmul{.trans_a = true, .kind = kind}, {dy, x});
    }
    // Of delayed scales: run_graph gives inputs of this name 2.
    Value counter() {
        if (!counter_) counter_ = b.input("counter", {Dtype::i32, {1}});
        return counter_;
    }

  private:
    Value counter_;
};

void expect_fused_and_plain_agree(const Graph& g, double relative, const Target& target = {}) {
    const Graph fused = fuse(g, target);
    EXPECT_EQ(to_text(fuse(fused, target)), to_text(fused)) << "fused again";
    const test::Ran got = test::run_graph(fused), want = test::run_graph(g);
    for (const auto& [name, tensor] : want.outputs) {
        SCOPED_TRACE(name);
        test::expect_close(got.outputs.at(name), tensor.values, relative);
    }
    for (const auto& [name, tensor] : want.state) {
        SCOPED_TRACE(name);
        test::expect_close(got.state.at(name), tensor.values, relative);
    }
}

TEST(FuseMatmulAccumulate, OnEitherSideOfTheAddition) {
    for (const bool product_first : {false, true}) {
        Built t;
        const Value dw = t.wgrad(t.matrix("dy", 16, 5), t.matrix("x", 16, 7));
        const Value acc = t.b.load("grad/w", {Dtype::f32, {5, 7}});
        t.b.store("grad/w", product_first ? t.b.add(dw, acc) : t.b.add(acc, dw));
        const Graph g = fuse(t.g);
        EXPECT_EQ(count<Add>(g), 0);
        ASSERT_EQ(count<Matmul>(g), 1);
        for (const Node& n : g.nodes()) {
            if (const auto* m = std::get_if<Matmul>(&n.op)) {
                EXPECT_TRUE(m->accumulate);
                EXPECT_EQ(g.value_name(n.in[2]), "grad/w");
            }
        }
        expect_fused_and_plain_agree(t.g, sum_tolerance(17));
    }
}

TEST(FuseMatmulAccumulate, TakesTheFactorOfTheProductButNotOfTheAccumulator) {
    for (const Add op : {Add{-3, 0}, Add{0, -2}, Add{-3, -2}}) {
        Built t;
        const Value dw = t.b.one(Matmul{.trans_a = true, .kind = MatmulKind::wgrad, .exponent = -1},
                                 {t.matrix("dy", 16, 5), t.matrix("x", 16, 7)});
        t.b.store("grad/w", t.b.one(op, {dw, t.b.load("grad/w", {Dtype::f32, {5, 7}})}));
        const Graph g = fuse(t.g);
        const bool joins = op.b_exponent == 0;
        EXPECT_EQ(count<Add>(g), joins ? 0 : 1);
        for (const Node& n : g.nodes()) {
            if (const auto* m = std::get_if<Matmul>(&n.op)) {
                EXPECT_EQ(m->exponent, joins ? -4 : -1);
            }
        }
        expect_fused_and_plain_agree(t.g, sum_tolerance(17));
    }
}

TEST(FuseCastTranspose, OnePassWritesBothCopies) {
    Built t;
    const Value codes = t.b.one(Cast{.to = Dtype::e4m3, .exponent = 1}, {t.matrix("x", 16, 48)});
    const Value w = t.matrix("w", 48, 5), dy = t.matrix("dy", 16, 5);
    t.b.output("y", t.b.one(Matmul{}, {codes, w}));
    t.b.output("dw", t.b.one(Matmul{}, {t.b.one(Transpose{}, {codes}), dy}));
    const Graph g = fuse(t.g);
    EXPECT_EQ(count<Transpose>(g), 0);
    EXPECT_EQ(count<Cast>(g), 1);
    expect_fused_and_plain_agree(t.g, 0);
}

const Target kFused{.fused_quantisers = true};

void expect_same_fused(const Graph& g) {
    const Graph fused = fuse(g, kFused);
    EXPECT_EQ(to_text(fuse(fused, kFused)), to_text(fused)) << "fused again";
    test::expect_same_bits(test::run_graph(fused), test::run_graph(g));
}

// A cast that goes by a window of past amaxes, a full one or not, and both copies of its codes.
void quantise_delayed(Built& t, Value x, const std::string& slot, int window) {
    const Value history = t.b.input("history." + slot, {Dtype::f32, {window}});
    const Values q = t.b.emit(DelayedQuantise{{Dtype::e5m2}},
                              {x, history, t.counter(), t.b.constant({Dtype::f32, {1}}, 0.125)});
    t.b.output("codes." + slot, q[0]);
    t.b.output("transposed." + slot, t.b.one(Transpose{}, {q[0]}));
    t.b.output("history'." + slot, q[1]);
    t.b.output("scale." + slot, q[2]);
}

const DelayedQuantise* only_quantiser(const Graph& g) {
    const DelayedQuantise* found = nullptr;
    for (const Node& n : g.nodes()) {
        const auto* q = std::get_if<DelayedQuantise>(&n.op);
        if (q && found) return nullptr;
        if (q) found = q;
    }
    return found;
}

TEST(FuseQuantiseTranspose, OnePassWritesBothCopies) {
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
        Built t;
        const Value x = t.b.input("x", {dtype, {16, 48}}), w = t.matrix("w", 48, 5);
        const Value scale = t.b.constant({Dtype::f32, {1}}, 0.25);
        const Value codes = t.b.one(Quantise{Dtype::e4m3}, {x, scale});
        t.b.output("y", t.b.one(Matmul{}, {codes, w}));
        t.b.output("dw", t.b.one(Matmul{}, {t.b.one(Transpose{}, {codes}), t.matrix("dy", 16, 5)}));
        const Graph g = fuse(t.g);
        EXPECT_EQ(count<Transpose>(g), 0);
        EXPECT_EQ(count<Quantise>(g), 1);
        test::expect_same_bits(test::run_graph(g), test::run_graph(t.g));
    }
}

TEST(FuseQuantiseTranspose, OrTheTransposeAlone) {
    Built t;
    const Value scale = t.b.constant({Dtype::f32, {1}}, 0.25);
    const Value codes = t.b.one(Quantise{Dtype::e5m2}, {t.matrix("x", 16, 48), scale});
    t.b.output("dw", t.b.one(Matmul{}, {t.b.one(Transpose{}, {codes}), t.matrix("dy", 16, 5)}));
    const Graph g = fuse(t.g);
    EXPECT_EQ(count<Transpose>(g), 0);
    EXPECT_TRUE(std::ranges::any_of(g.nodes(), [](const Node& n) {
        return n.op == Op{Quantise{Dtype::e5m2, Copies::columns}};
    }));
    test::expect_same_bits(test::run_graph(g), test::run_graph(t.g));
}

// Codes under the scale of their own amax, as Provider::current emits them, and both copies.
Value quantise_current(Built& t, Value x, Dtype to = Dtype::e4m3,
                       ScaleRounding rounding = ScaleRounding::pow2) {
    const Value amax = t.b.one(Amax{}, {x}), guard = t.b.one(Guard{}, {amax});
    const Value scale = t.b.one(ComputeScale{{.to = to, .rounding = rounding}}, {amax, guard});
    const Value codes = t.b.one(Quantise{to}, {x, scale});
    t.b.output(fmt::format("codes {}", x.id), codes);
    t.b.output(fmt::format("turned {}", x.id), t.b.one(Transpose{}, {codes}));
    return scale;
}

TEST(FuseCurrentQuantise, OneOpFindsTheScaleAndTheCodes) {
    for (const Dtype to : {Dtype::e4m3, Dtype::e5m2}) {
        Built t;
        const auto half = [&](const char* name) {
            return t.b.input(name, {Dtype::bf16, {16, 48}});
        };
        const auto scope = t.b.scope("layers.0.mlp");
        quantise_current(t, half("x"), to);
        quantise_current(t, t.b.one(SwiGlu{}, {half("gate"), half("up")}), to);
        quantise_current(t, t.b.one(Gelu{}, {half("z")}), to);
        quantise_current(t, t.b.emit(RmsNorm{}, {half("y"), t.b.input("w", {Dtype::f32, {48}})})[0],
                         to);
        const Graph g = fuse(t.g, kFused);
        EXPECT_EQ(count<Amax>(g) + count<ComputeScale>(g) + count<Quantise>(g), 0);
        EXPECT_EQ(count<SwiGlu>(g) + count<Gelu>(g) + count<Transpose>(g), 0);
        EXPECT_EQ(count<CurrentQuantise>(g), 4);
        using Q = QuantiseSource;
        for (const Q of : {Q::value, Q::swiglu, Q::gelu, Q::normalise}) {
            EXPECT_EQ(std::ranges::count_if(g.nodes(),
                                            [&](const Node& n) {
                                                const auto* q = std::get_if<CurrentQuantise>(&n.op);
                                                return q && q->of == of;
                                            }),
                      1);
        }
        std::set<std::string> guesses;
        for (const Node& n : g.nodes()) {
            const auto* store = std::get_if<Store>(&n.op);
            if (store) guesses.insert(store->name);
        }
        EXPECT_EQ(guesses.size(), 4u);
        EXPECT_TRUE(guesses.contains("scale.guess/layers.0.mlp.0"));
        expect_same_fused(t.g);
    }
}

// As a recomputed cast reads the first one's.
TEST(FuseCurrentQuantise, ItsScaleIsReadElsewhere) {
    Built t;
    const Value h = t.b.one(Gelu{}, {t.b.input("x", {Dtype::bf16, {16, 48}})});
    const Value scale = quantise_current(t, h);
    t.b.output("again", t.b.one(Quantise{}, {t.matrix("y", 16, 48), scale}));
    t.b.output("scale", scale);
    const Graph g = fuse(t.g, kFused);
    EXPECT_EQ(count<ComputeScale>(g) + count<Amax>(g) + count<Gelu>(g), 0);
    EXPECT_EQ(count<Quantise>(g), 1);
    expect_same_fused(t.g);
}

// Exact scales seldom are what they were; one of another tensor, or for another format, is none of
// its own.
TEST(FuseCurrentQuantise, NotWhereAGuessIsWrongOrThereIsNone) {
    Built t;
    quantise_current(t, t.matrix("x", 16, 48), Dtype::e4m3, ScaleRounding::exact);
    const Value amax = t.b.one(Amax{}, {t.matrix("y", 16, 48)});
    const Value guard = t.b.one(Guard{}, {amax});
    const Value scale = t.b.one(ComputeScale{}, {amax, guard});
    t.b.output("z", t.b.one(Quantise{}, {t.matrix("z", 16, 48), scale}));
    t.b.output("y", t.b.one(Quantise{Dtype::e5m2}, {t.g.node(t.g.producer(amax)).in[0], scale}));
    const Graph g = fuse(t.g, kFused);
    EXPECT_EQ(count<CurrentQuantise>(g), 0);
    expect_same_fused(t.g);
}

TEST(FuseCurrentQuantise, SmoothSwiGluDividesOnTheWay) {
    for (const Axis axis : {Axis::row, Axis::column}) {
        for (const auto rounding : {ScaleRounding::pow2, ScaleRounding::exact}) {
            for (const bool given : {false, true}) {
                if (given && axis == Axis::row) continue;
                Built t;
                const auto half = [&](const char* name) {
                    return t.b.input(name, {Dtype::bf16, {16, 48}});
                };
                Values in{half("gate"), half("up")};
                if (given) in.push_back(t.b.constant({Dtype::f32, {48}}, 0.25));
                const Values smooth =
                    t.b.emit(SmoothSwiGlu{.axis = axis, .rounding = rounding, .given = given}, in);
                quantise_current(t, smooth[0]);
                t.b.output("factors", smooth[1]);
                const Graph g = fuse(t.g, kFused);
                const int apart = rounding == ScaleRounding::exact ? 1 : 0;
                EXPECT_EQ(count<SmoothSwiGlu>(g), apart);
                EXPECT_EQ(count<SmoothFactors>(g), 1 - apart);
                expect_same_fused(t.g);
                EXPECT_EQ(count<CurrentQuantise>(fuse(t.g)), 0);  // where that does not pay
            }
        }
    }
}

TEST(FuseCurrentQuantise, NotASmoothSwiGluThatIsReadElsewhere) {
    Built t;
    const Values smooth =
        t.b.emit(SmoothSwiGlu{}, {t.matrix("gate", 16, 48), t.matrix("up", 16, 48)});
    quantise_current(t, smooth[0]);
    t.b.output("h", smooth[0]);
    const Graph g = fuse(t.g, kFused);
    EXPECT_EQ(count<SmoothSwiGlu>(g), 1);
    EXPECT_EQ(count<CurrentQuantise>(g), 1);
    expect_same_fused(t.g);
}

TEST(FuseScaleAlongAccumulate, TheResidualStreamIsAdded) {
    for (const Axis axis : {Axis::row, Axis::column}) {
        for (const bool product_first : {false, true}) {
            Built t;
            const Value s = t.b.input("s", {Dtype::f32, {axis == Axis::row ? 6 : 8}});
            const Value acc = t.matrix("acc", 6, 8);
            const Value y = t.b.one(ScaleAlong{axis}, {t.matrix("y", 6, 8), s});
            t.b.output("sum", product_first ? t.b.add(y, acc) : t.b.add(acc, y));
            EXPECT_EQ(count<Add>(fuse(t.g)), 0);
            EXPECT_EQ(count<ScaleAlong>(fuse(t.g)), 1);
            expect_fused_and_plain_agree(t.g, 4 * 0x1p-24);
        }
    }
}

TEST(FuseScaleAlongAccumulate, NotWhenTheProductOrTheSumIsWantedElsewhere) {
    Built t;
    const Value s = t.b.input("s", {Dtype::f32, {6}});
    const Value y = t.b.one(ScaleAlong{}, {t.matrix("y", 6, 8), s});
    t.b.output("sum", t.b.add(y, t.matrix("acc", 6, 8)));
    t.b.output("product", y);
    const Value other = t.b.one(ScaleAlong{}, {t.matrix("z", 6, 8), s});
    t.b.output("later", t.b.add(other, t.b.mul(t.matrix("a", 6, 8), t.matrix("b", 6, 8))));
    EXPECT_EQ(to_text(fuse(t.g)), to_text(t.g));
}

TEST(FuseQuantiseScaled, FactorsJoinTheQuantiser) {
    for (const ScaleAlong& scaled :
         {ScaleAlong{Axis::row}, ScaleAlong{Axis::row, true}, ScaleAlong{Axis::column, true}}) {
        for (const bool gradients : {false, true}) {
            for (const int window : {2, 16}) {
                Built t;
                const auto matrix = [&](const char* name) {
                    return t.b.input(name, {Dtype::bf16, {32, 48}});
                };
                const Value s = t.b.input("s", {Dtype::f32, {scaled.axis == Axis::row ? 32 : 48}});
                const Value dy = t.b.one(scaled, {matrix("dy"), s});
                if (gradients) {
                    const Values both = t.b.emit(SwiGluGrad{}, {matrix("gate"), matrix("up"), dy});
                    quantise_delayed(t, both[0], "gate", window);
                    quantise_delayed(t, both[1], "up", window);
                } else {
                    quantise_delayed(t, dy, "y", window);
                }
                const Graph g = fuse(t.g, kFused);
                EXPECT_EQ(count<ScaleAlong>(g) + count<SwiGluGrad>(g) + count<Transpose>(g), 0);
                const DelayedQuantise* q = only_quantiser(g);
                ASSERT_TRUE(q);
                EXPECT_EQ(q->scaled, scaled);
                expect_same_fused(t.g);
                EXPECT_EQ(count<ScaleAlong>(fuse(t.g)), 1);  // where that does not pay
            }
        }
    }
}

TEST(FuseQuantiseScaled, NotWhenTheProductIsReadElsewhere) {
    Built t;
    const Value dy =
        t.b.one(ScaleAlong{}, {t.matrix("dy", 32, 48), t.b.input("s", {Dtype::f32, {32}})});
    quantise_delayed(t, dy, "y", 16);
    t.b.output("dy", dy);
    const Graph g = fuse(t.g, kFused);
    EXPECT_EQ(count<ScaleAlong>(g), 1);
    expect_same_fused(t.g);
}

// The factors come last: what they multiply stays an operand.
TEST(FuseQuantiseScaled, OpsBeforeTheFactorsStay) {
    Built t;
    const Value x = t.b.input("x", {Dtype::bf16, {32, 48}}), w = t.b.input("w", {Dtype::f32, {48}});
    const Value s = t.b.input("s", {Dtype::f32, {32}});
    quantise_delayed(t, t.b.one(ScaleAlong{}, {t.b.emit(RmsNorm{}, {x, w})[0], s}), "norm", 16);
    const Value h = t.b.one(SwiGlu{}, {x, t.b.input("up", {Dtype::bf16, {32, 48}})});
    quantise_delayed(t, t.b.one(ScaleAlong{}, {h, s}), "h", 16);
    const Graph g = fuse(t.g, kFused);
    EXPECT_EQ(count<ScaleAlong>(g), 0);
    EXPECT_EQ(count<SwiGlu>(g) + count<RmsNorm>(g), 2);
    EXPECT_EQ(to_text(fuse(g, kFused)), to_text(g));
    expect_same_fused(t.g);
}

struct NormCase {
    bool rms, blocks;
    Dtype dtype = Dtype::bf16;
};

// A norm, what quantises it, and its gradient, which reads the statistics.
void quantised_norm(Built& t, const NormCase& c) {
    const Type x_type{c.dtype, {2, 16, 48}};
    const Value x = t.b.input("x", x_type), w = t.b.input("w", {Dtype::f32, {48}});
    Values operands{x, w};
    if (!c.rms) operands.push_back(t.b.input("b", {Dtype::f32, {48}}));
    const Values norm = c.rms ? t.b.emit(RmsNorm{}, operands) : t.b.emit(LayerNorm{}, operands);
    if (c.blocks) {
        const BlockQuantise op{.scaling = {.granularity = Granularity::micro, .group = 32}};
        t.b.output("codes", t.b.one(op, {norm[0]}));
        t.b.output("columns", t.b.one(op, {t.b.one(Transpose{}, {norm[0]})}));
    } else {
        quantise_delayed(t, norm[0], "y", 16);
    }
    Values in{x, w};
    in.insert(in.end(), norm.begin() + 1, norm.end());
    in.push_back(t.b.input("dy", x_type));
    const Values grads = c.rms ? t.b.emit(RmsNormGrad{}, in) : t.b.emit(LayerNormGrad{}, in);
    t.b.output("dx", grads[0]);
}

TEST(FuseQuantiseNorm, CodesComeFromTheStatistics) {
    for (const bool rms : {true, false}) {
        for (const bool blocks : {true, false}) {
            for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
                SCOPED_TRACE(fmt::format("rms {} blocks {} {}", rms, blocks, name(dtype)));
                Built t;
                quantised_norm(t, {rms, blocks, dtype});
                const Graph g = fuse(t.g, kFused);
                EXPECT_EQ(count<DelayedQuantise>(g) + count<BlockQuantise>(g), 1);
                EXPECT_TRUE(std::ranges::all_of(g.nodes(), [](const Node& n) {
                    if (const auto* op = std::get_if<RmsNorm>(&n.op)) return op->statistics;
                    if (const auto* op = std::get_if<LayerNorm>(&n.op)) return op->statistics;
                    auto of = QuantiseSource::normalise;
                    if (const auto* q = std::get_if<DelayedQuantise>(&n.op)) of = q->of;
                    if (const auto* q = std::get_if<BlockQuantise>(&n.op)) of = q->of;
                    return of == QuantiseSource::normalise;
                }));
                expect_same_fused(t.g);
            }
        }
    }
}

TEST(FuseQuantiseNorm, NotWhenTheNormIsReadElsewhere) {
    Built t;
    const Value x = t.matrix("x", 16, 48), w = t.b.input("w", {Dtype::f32, {48}});
    const Values norm = t.b.emit(RmsNorm{}, {x, w});
    quantise_delayed(t, norm[0], "y", 16);
    t.b.output("sum", t.b.add(norm[0], x));
    const Graph g = fuse(t.g, kFused);
    ASSERT_TRUE(only_quantiser(g));
    EXPECT_EQ(only_quantiser(g)->of, QuantiseSource::value);
    expect_same_fused(t.g);
}
TEST(FuseQuantiseNorm, StatisticsThatNoGradientNeedsAreTheQuantisers) {
    for (const bool shared : {true, false}) {
        Built t;
        const Value x = t.matrix("x", 16, 256), w = t.b.input("w", {Dtype::f32, {256}});
        const Values norm = t.b.emit(RmsNorm{}, {x, w});
        t.b.output("codes", t.b.one(BlockQuantise{}, {norm[0]}));
        if (shared) t.b.output("rstd", norm[1]);
        const Graph g = fuse(t.g, kFused);
        EXPECT_EQ(count<RmsNormQuantise>(g), shared ? 0 : 1);
        EXPECT_EQ(count<RmsNorm>(g), shared ? 1 : 0);
        EXPECT_EQ(count<BlockQuantise>(g), shared ? 1 : 0);
        expect_same_fused(t.g);
    }
}

void expect_same_bits(const Graph& fused, const Graph& plain) {
    test::expect_same_bits(test::run_graph(fused), test::run_graph(plain));
}

TEST(FuseCastSource, GatesAndTheirGradients) {
    for (const Dtype dtype : {Dtype::f16, Dtype::bf16}) {
        Built t;
        const auto half = [&](const char* name) { return t.b.input(name, {dtype, {16, 48}}); };
        const Value gate = half("gate"), up = half("up"), dy = half("dy");
        const auto cast_of = [&](Value x, int exponent, const char* name) {
            const Value codes = t.b.one(Cast{.to = Dtype::e5m2, .exponent = exponent}, {x});
            t.b.output(name, codes);
            t.b.output(fmt::format("{} turned", name), t.b.one(Transpose{}, {codes}));
        };
        cast_of(t.b.one(SwiGlu{-1}, {gate, up}), 2, "h");
        const Values grads = t.b.emit(SwiGluGrad{-2}, {gate, up, dy});
        cast_of(grads[1], 3, "dup");
        cast_of(grads[0], -1, "dgate");
        cast_of(t.b.one(Gelu{3}, {up}), 0, "gelu");
        cast_of(t.b.one(GeluGrad{3}, {up, dy}), 1, "gelu_grad");
        const Graph g = fuse(t.g, kFused);
        EXPECT_EQ(count<Cast>(g), 4);
        EXPECT_EQ(g.nodes().size(), 3 + 4);
        expect_same_bits(g, t.g);
    }
}

TEST(FuseCastSource, NotWhenAResultIsReadElsewhereOrCastToMoreBits) {
    Built t;
    const Value gate = t.matrix("gate", 16, 48), up = t.matrix("up", 16, 48);
    const Value h = t.b.one(SwiGlu{}, {gate, up});
    t.b.output("codes", t.b.one(Cast{Dtype::e4m3}, {h}));
    t.b.output("h", h);
    const Values grads = t.b.emit(SwiGluGrad{}, {gate, up, gate});
    t.b.output("dgate", t.b.one(Cast{Dtype::e4m3}, {grads[0]}));
    t.b.output("dup", t.b.one(Cast{Dtype::e5m2}, {grads[1]}));
    t.b.output("wide", t.b.one(Cast{Dtype::f16}, {t.b.one(Gelu{}, {up})}));
    EXPECT_EQ(to_text(fuse(t.g, kFused)), to_text(t.g));
}

// What measured gradients of a norm go through on their way to the next product.
TEST(FuseMeasuredGradient, TheNormMeasuresAndTheSumCasts) {
    for (const bool rms : {false, true}) {
        Built t;
        const auto half = [&](const char* name) { return t.b.input(name, {Dtype::f16, {6, 16}}); };
        const Value x = half("x"), dy = half("dy"), stream = half("stream");
        const Value w = t.b.input("w", {Dtype::f32, {16}});
        const Value scale = t.b.constant({Dtype::f32, {1}}, 0.25);
        Values grads;
        if (rms) {
            const Values norm = t.b.emit(RmsNorm{}, {x, w});
            grads = t.b.emit(RmsNormGrad{}, {x, w, norm[1], dy});
        } else {
            const Values norm = t.b.emit(LayerNorm{}, {x, w, w});
            grads = t.b.emit(LayerNormGrad{}, {x, w, norm[1], norm[2], dy});
        }
        const Value size = t.b.one(DynamicRescale{Statistic::l2, -3}, {grads[0], scale});
        const Values sum =
            t.b.emit(ScaledAdd{.b_exponent = -3}, {stream, scale, grads[0], scale, scale, size});
        const Value codes = t.b.one(Cast{Dtype::e5m2}, {sum[0]});
        t.b.output("dw", grads[1]);
        t.b.output("sum", sum[0]);
        t.b.output("scale", sum[1]);
        t.b.output("codes", codes);
        t.b.output("turned", t.b.one(Transpose{}, {codes}));
        const Graph g = fuse(t.g, kFused);
        EXPECT_EQ(count<DynamicRescale>(g) + count<Cast>(g) + count<Transpose>(g), 0);
        EXPECT_EQ(count<ScaledAdd>(g), 1);
        expect_same_bits(g, t.g);
    }
}

// 2^-1 (a b + c d) + e f: three products that add to each other.
TEST(FuseMatmulExponent, ProductsTakeTheFactorOfTheirSum) {
    Built t;
    const auto product = [&](int i) {
        return t.b.one(Matmul{.kind = MatmulKind::dgrad, .exponent = -2},
                       {t.matrix(fmt::format("a{}", i).c_str(), 16, 24),
                        t.matrix(fmt::format("b{}", i).c_str(), 24, 8)});
    };
    const Value first = product(0), second = product(1), third = product(2);
    t.b.output("sum", t.b.one(Add{-1, 0}, {t.b.add(first, second), third}));
    const Graph g = fuse(t.g, {.accumulate_products = true});
    EXPECT_EQ(count<Add>(g), 0);
    std::vector<int> exponents;
    for (const Node& n : g.nodes()) {
        if (const auto* m = std::get_if<Matmul>(&n.op)) exponents.push_back(m->exponent);
    }
    EXPECT_EQ(exponents, (std::vector<int>{-3, -3, -2}));
    expect_fused_and_plain_agree(t.g, sum_tolerance(74));
    const test::Ran got = test::run_graph(g), want = test::run_graph(t.g);
    test::expect_close(got.outputs.at("sum"), want.outputs.at("sum").values, sum_tolerance(74));
    EXPECT_EQ(to_text(fuse(t.g)), to_text(t.g));
}

TEST(FuseMatmulExponent, NotPastWhatIsReadElsewhere) {
    Built t;
    const Value product =
        t.b.one(Matmul{.kind = MatmulKind::dgrad}, {t.matrix("a", 16, 24), t.matrix("b", 24, 8)});
    const Value sum = t.b.add(product, t.matrix("c", 16, 8));
    t.b.output("twice", t.b.one(Add{-1, 0}, {sum, t.matrix("d", 16, 8)}));
    const Graph g = fuse(t.g, {.accumulate_products = true});
    EXPECT_EQ(count<Add>(g), 1);
    for (const Node& n : g.nodes()) {
        if (const auto* m = std::get_if<Matmul>(&n.op)) {
            EXPECT_EQ(m->exponent, 0);
        }
        if (const auto* a = std::get_if<Add>(&n.op)) {
            EXPECT_EQ(a->a_exponent, -1);
        }
    }
}

TEST(FuseMatmulAccumulate, NotWhenSomebodyElseWantsTheProduct) {
    Built t;
    const Value dw = t.wgrad(t.matrix("dy", 16, 5), t.matrix("x", 16, 7));
    t.b.output("sum", t.b.add(t.matrix("acc", 5, 7), dw));
    t.b.output("dw", dw);
    EXPECT_EQ(to_text(fuse(t.g)), to_text(t.g));
}

TEST(FuseMatmulAccumulate, NotForResidualAdditions) {
    for (const MatmulKind kind : {MatmulKind::plain, MatmulKind::fprop, MatmulKind::dgrad}) {
        Built t;
        const Value y = t.wgrad(t.matrix("dy", 16, 5), t.matrix("x", 16, 7), kind);
        t.b.output("sum", t.b.add(t.matrix("acc", 5, 7), y));
        EXPECT_EQ(to_text(fuse(t.g)), to_text(t.g));
    }
}

TEST(FuseNormGradAccumulate, TheResidualStreamIsAdded) {
    for (const bool gradient_first : {false, true}) {
        for (const bool rms : {false, true}) {
            Built t;
            const Value x = t.matrix("x", 6, 8), dy = t.matrix("dy", 6, 8);
            const Value acc = t.matrix("acc", 6, 8), w = t.b.input("w", {Dtype::f32, {8}});
            Values grads;
            if (rms) {
                const Values norm = t.b.emit(RmsNorm{}, {x, w});
                grads = t.b.emit(RmsNormGrad{}, {x, w, norm[1], dy});
            } else {
                const Values norm = t.b.emit(LayerNorm{}, {x, w, w});
                grads = t.b.emit(LayerNormGrad{}, {x, w, norm[1], norm[2], dy});
            }
            t.b.output("dw", grads[1]);
            t.b.output("dx", gradient_first ? t.b.add(grads[0], acc) : t.b.add(acc, grads[0]));
            EXPECT_EQ(count<Add>(fuse(t.g)), 0);
            expect_fused_and_plain_agree(t.g, 4 * 0x1p-24);
        }
    }
}

TEST(FuseNormGradAccumulate, NotWhenTheOtherTermComesLater) {
    Built t;
    const Value x = t.matrix("x", 6, 8), w = t.b.input("w", {Dtype::f32, {8}});
    const Values norm = t.b.emit(RmsNorm{}, {x, w});
    const Value dx = t.b.emit(RmsNormGrad{}, {x, w, norm[1], t.matrix("dy", 6, 8)})[0];
    t.b.output("sum", t.b.add(dx, t.b.mul(dx, x)));
    t.b.output("other", t.b.add(norm[0], t.b.mul(x, x)));
    EXPECT_EQ(to_text(fuse(t.g)), to_text(t.g));
}

TEST(FuseMatmulCast, TheProductRoundsItsSums) {
    Built t;
    const Value dw = t.b.cast(t.wgrad(t.matrix("dy", 16, 5), t.matrix("x", 16, 7)), Dtype::bf16);
    t.b.output("dw", dw);
    const Value other = t.wgrad(t.matrix("dy2", 16, 5), t.matrix("x2", 16, 7));
    t.b.store("grad/w",
              t.b.add(t.b.load("grad/w", {Dtype::bf16, {5, 7}}), t.b.cast(other, Dtype::bf16)));
    const Graph g = fuse(t.g);
    EXPECT_EQ(count<Cast>(g) + count<Add>(g), 0);
    EXPECT_EQ(count<Matmul>(g), 2);
    // Added before rounding: half a quantum of the sum less than twice rounded.
    expect_fused_and_plain_agree(t.g, 0x1p-7);
    EXPECT_EQ(test::run_graph(g).outputs.at("dw").codes,
              test::run_graph(t.g).outputs.at("dw").codes);
}

TEST(FuseMatmulCast, CodesFromCodes) {
    enum class Reader { cast, measurement, output };
    for (const Reader other : {Reader::cast, Reader::measurement, Reader::output}) {
        Built t;
        const auto codes = [&](const char* name, Dtype dtype, std::int64_t n) {
            return t.b.one(Cast{dtype}, {t.matrix(name, 32, n)});
        };
        const Value sums = t.wgrad(codes("dy", Dtype::e5m2, 16), codes("x", Dtype::e4m3, 48));
        const Value dw = t.b.one(Cast{.to = Dtype::e5m2, .exponent = -2}, {sums});
        t.b.output("dw", dw);
        if (other == Reader::measurement) {
            const Value wide = t.b.one(Cast{.to = Dtype::f32, .exponent = -2}, {sums});
            t.b.output("stats", t.b.one(MeasureCast{}, {wide, dw}));
        }
        if (other == Reader::output) t.b.output("sums", sums);
        const Graph g = fuse(t.g, kFused);
        int written = 0;
        for (const Node& n : g.nodes()) {
            const auto* m = std::get_if<Matmul>(&n.op);
            written += m && m->out == Dtype::e5m2;
        }
        EXPECT_EQ(written, other == Reader::output ? 0 : 1);
        expect_same_bits(g, t.g);
    }
}

TEST(FuseMatmulCast, NotForActivations) {
    Built t;
    const Value y = t.wgrad(t.matrix("dy", 16, 5), t.matrix("x", 16, 7), MatmulKind::fprop);
    t.b.output("y", t.b.cast(y, Dtype::bf16));
    EXPECT_EQ(to_text(fuse(t.g)), to_text(t.g));
}

// A backend whose products add biases, in all dtypes but f16.
constexpr Target kAddsBias{
    .accumulate_products = true,
    .adds_bias = [](const Matmul& op, const Type&, const Type&) { return op.out != Dtype::f16; }};

// y = x w^T + bias, and what is asked of the graph.
struct Biased : Built {
    Value product, y;

    explicit Biased(Dtype dtype, BiasAdd add = {}) {
        product = b.linear(b.input("x", {dtype, {4, 8, 16}}), b.load("w", {dtype, {24, 16}}));
        y = b.one(add, {product, b.load("bias", {Dtype::f32, {24}})});
    }
};

const Node& only_matmul(const Graph& g) {
    for (const Node& n : g.nodes()) {
        if (std::holds_alternative<Matmul>(n.op)) return n;
    }
    fail("there is no product");
}

TEST(FuseMatmulBias, TheProductAddsIt) {
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
        Biased t(dtype);
        t.b.output("y", t.y);
        const Graph g = fuse(t.g, kAddsBias);
        EXPECT_EQ(count<BiasAdd>(g), 0);
        EXPECT_EQ(count<Cast>(g), dtype == Dtype::f32 ? 0 : 1);
        EXPECT_EQ(std::get<Matmul>(only_matmul(g).op),
                  (Matmul{.trans_b = true, .kind = MatmulKind::fprop, .out = dtype, .bias = true}));
        EXPECT_EQ(to_text(fuse(t.g)), to_text(t.g));
        // Rounded once, and the bias for itself: the other way, twice.
        const double tolerance = dtype == Dtype::f32 ? sum_tolerance(17) : 2 * 0x1p-8;
        expect_fused_and_plain_agree(t.g, tolerance, kAddsBias);
    }
}

TEST(FuseMatmulBias, AndTheResidualStream) {
    for (const bool product_first : {false, true}) {
        Biased t(Dtype::f32);
        const Value x = t.b.input("residual", t.b.type(t.y));
        t.b.output("y", product_first ? t.b.add(t.y, x) : t.b.add(x, t.y));
        const Graph g = fuse(t.g, kAddsBias);
        EXPECT_EQ(count<BiasAdd>(g) + count<Add>(g), 0);
        const Node& product = only_matmul(g);
        EXPECT_EQ(g.value_name(product.in[2]), "bias");
        EXPECT_EQ(g.value_name(product.in[3]), "residual");
        expect_fused_and_plain_agree(t.g, sum_tolerance(18), kAddsBias);
        Target alone = kAddsBias;
        alone.adds_bias = [](const Matmul& op, const Type&, const Type&) { return !op.accumulate; };
        EXPECT_EQ(count<Add>(fuse(t.g, alone)), 1);
        EXPECT_EQ(count<BiasAdd>(fuse(t.g, alone)), 0);
    }
}

TEST(FuseMatmulBias, TakesItsFactors) {
    Biased t(Dtype::bf16, {-2, 3});
    t.b.output("y", t.y);
    const Graph g = fuse(t.g, kAddsBias);
    EXPECT_EQ(std::get<Matmul>(only_matmul(g).op).exponent, -2);
    EXPECT_EQ(std::get<Cast>(g.node(g.producer(only_matmul(g).in[2])).op),
              (Cast{.to = Dtype::bf16, .exponent = 3}));
    expect_fused_and_plain_agree(t.g, 2 * 0x1p-8, kAddsBias);
}

TEST(FuseMatmulBias, NotWhereItCosts) {
    Biased t(Dtype::f16);
    t.b.output("y", t.y);
    EXPECT_EQ(to_text(fuse(t.g, kAddsBias)), to_text(t.g));
}

TEST(FuseMatmulBias, NotWhenSomebodyElseWantsTheProduct) {
    Biased t(Dtype::f32);
    t.b.output("y", t.y);
    t.b.output("product", t.product);
    EXPECT_EQ(to_text(fuse(t.g, kAddsBias)), to_text(t.g));
}

TEST(FuseAdamwAmax, TheUpdateReportsIt) {
    Built t;
    const auto load = [&](const char* name) { return t.b.load(name, {Dtype::f32, {5, 7}}); };
    const Value v = load("v");
    const Values next = t.b.emit(
        AdamW{},
        {load("w"), load("g"), load("m"), t.b.mul(v, v), t.b.input("factor", {Dtype::f32, {1}}),
         t.b.constant({Dtype::f32, {3}}, 0.5), t.b.input("step", {Dtype::i32, {1}})});
    for (int i = 0; i < 3; ++i) t.b.output(fmt::format("next{}", i), next[i]);
    t.b.output("amax", t.b.one(Amax{}, {next[0]}));
    EXPECT_EQ(count<Amax>(fuse(t.g)), 0);
    expect_fused_and_plain_agree(t.g, 0);
}

struct Update : Built {
    Values next =
        b.emit(AdamW{}, {load("w"), load("g"), load("m"), b.mul(load("v"), load("v")),
                         b.input("factor", {Dtype::f32, {1}}), b.constant({Dtype::f32, {3}}, 0.5),
                         b.input("step", {Dtype::i32, {1}})});

    Value load(const char* name) { return b.load(name, {Dtype::f32, {5, 7}}); }
};

TEST(FuseAdamwCopy, TheUpdateWritesTheWorkingCopy) {
    Update t;
    t.b.store("w", t.next[0]);
    t.b.store("work", t.b.cast(t.next[0], Dtype::bf16));
    EXPECT_EQ(count<Cast>(fuse(t.g)), 0);
    expect_fused_and_plain_agree(t.g, 0);
}

TEST(FuseAdamwCopy, UnderAScaleThatDoesNotDependOnTheWeight) {
    Update t;
    t.b.store("w", t.next[0]);
    // Comes after the update, and is needed before it.
    const Value scale =
        t.b.mul(t.b.input("bound", {Dtype::f32, {1}}), t.b.constant({Dtype::f32, {1}}, 0x1p-8));
    t.b.store("work", t.b.one(Quantise{}, {t.next[0], scale}));
    EXPECT_EQ(count<Quantise>(fuse(t.g)), 0);
    expect_fused_and_plain_agree(t.g, 0);
}

TEST(FuseAdamwCopy, NotUnderTheScaleOfTheWeightItself) {
    Update t;
    t.b.store("w", t.next[0]);
    const Value amax = t.b.one(Amax{}, {t.next[0]});
    t.b.store("work", t.b.one(Quantise{}, {t.next[0], amax}));
    EXPECT_EQ(count<Quantise>(fuse(t.g)), 1);
    expect_fused_and_plain_agree(t.g, 0);
}

TEST(FuseEmbeddingAccumulate, ScattersOntoTheOtherTerm) {
    for (const bool scatter_first : {false, true}) {
        Built t;
        const Value dy = t.matrix("dy", 9, 4), ids = t.b.input("ids", {Dtype::i32, {9}});
        const Value dtable = t.b.one(EmbeddingGrad{6}, {dy, ids});
        const Value acc = t.b.load("grad/table", {Dtype::f32, {6, 4}});
        t.b.store("grad/table", scatter_first ? t.b.add(dtable, acc) : t.b.add(acc, dtable));
        EXPECT_EQ(count<Add>(fuse(t.g)), 0);
        expect_fused_and_plain_agree(t.g, sum_tolerance(10));
    }
}

TEST(FuseEmbeddingAccumulate, NotWhenSomebodyElseWantsTheScatter) {
    Built t;
    const Value dtable =
        t.b.one(EmbeddingGrad{6}, {t.matrix("dy", 9, 4), t.b.input("ids", {Dtype::i32, {9}})});
    t.b.output("sum", t.b.add(t.matrix("acc", 6, 4), dtable));
    t.b.output("dtable", dtable);
    EXPECT_EQ(to_text(fuse(t.g)), to_text(t.g));
}

// hidden (2, 6, C) -> logits (2, 6, V) -> loss, and back to hidden and weight.
struct Head : Built {
    static constexpr std::int64_t kVocab = 11, kWidth = 8;
    Value hidden = b.input("hidden", {Dtype::f32, {2, 6, kWidth}});
    Value weight, logits, loss;

    explicit Head(bool conv1d = false) {
        weight =
            b.load("head", {Dtype::f32, conv1d ? Shape{kWidth, kVocab} : Shape{kVocab, kWidth}});
        logits = conv1d ? b.conv1d(hidden, weight) : b.linear(hidden, weight);
        const Value targets = b.input("targets", {Dtype::i32, {12}});
        loss = b.emit(CrossEntropy{}, {b.reshape(logits, {12, kVocab}), targets,
                                       b.constant({Dtype::f32, {1}}, 0.125)})[0];
    }
    void gradients(bool accumulate = false) {
        const Values grads = differentiate(b, loss, {hidden, weight});
        b.output("loss", loss);
        b.output("dhidden", grads[0]);
        Value dw = grads[1];
        if (accumulate) dw = b.add(b.load("grad/head", b.type(dw)), dw);
        b.store("grad/head", dw);
    }
};

TEST(FuseHeadLoss, LogitsAreGone) {
    for (const bool conv1d : {false, true}) {
        Head t(conv1d);
        t.gradients();
        const Graph g = fuse(t.g);
        verify(g);
        EXPECT_EQ(count<HeadLoss>(g), 1);
        EXPECT_EQ(count<Matmul>(g) + count<CrossEntropy>(g) + count<CrossEntropyGrad>(g), 0);
        expect_fused_and_plain_agree(t.g, sum_tolerance(12) + 8 * 0x1p-24);
    }
}

TEST(FuseHeadLoss, AccumulatesOntoTheGradientOfEarlierBatches) {
    Head t;
    t.gradients(/*accumulate=*/true);
    // Only onto what exists before the head, as it does once Loads come first.
    EXPECT_EQ(count<Add>(fuse(t.g)), 1);
    const Graph g = fuse(store_early(t.g));
    EXPECT_EQ(count<HeadLoss>(g), 1);
    EXPECT_EQ(count<Add>(g), 0);
    expect_fused_and_plain_agree(store_early(t.g), sum_tolerance(13) + 8 * 0x1p-24);
    expect_fused_and_plain_agree(t.g, sum_tolerance(13) + 8 * 0x1p-24);
}

TEST(FuseHeadLoss, NotWhenTheLogitsAreWanted) {
    Head t;
    t.gradients();
    t.b.output("logits", t.logits);
    EXPECT_EQ(count<HeadLoss>(fuse(t.g)), 0);
    expect_fused_and_plain_agree(t.g, 0);
}

TEST(FuseHeadLoss, NotWithoutGradients) {
    Head t;
    t.b.output("loss", t.loss);
    EXPECT_EQ(to_text(fuse(t.g)), to_text(t.g));
}

TEST(FuseHeadLoss, NotWhenOnlyOneGradientIsWanted) {
    Head t;
    t.b.output("dhidden", differentiate(t.b, t.loss, {t.hidden})[0]);
    t.b.output("loss", t.loss);
    EXPECT_EQ(count<HeadLoss>(fuse(remove_dead(t.g))), 0);
}

TEST(FuseHeadLoss, NotForAnotherMatrixThanTheHeads) {
    Head t;
    const Value dlogits = differentiate(t.b, t.loss, {t.logits})[0];
    const Value other = t.b.input("other", {Dtype::f32, {12, Head::kWidth}});
    t.b.output("dhidden", t.b.one(Matmul{.kind = MatmulKind::dgrad}, {dlogits, t.weight}));
    t.b.output("dw", t.wgrad(dlogits, other));
    t.b.output("loss", t.loss);
    EXPECT_EQ(count<HeadLoss>(fuse(t.g)), 0);
}

TEST(Fuse, RulesCanBeChosen) {
    Head t;
    t.gradients();
    EXPECT_EQ(to_text(fuse(t.g, {}, {})), to_text(t.g));
    const std::span<const FusionRule> all = fusion_rules();
    const auto head = std::ranges::find(all, "head_loss", &FusionRule::name);
    ASSERT_NE(head, all.end());
    EXPECT_EQ(count<HeadLoss>(fuse(t.g, {}, {&*head, 1})), 1);
}

}  // namespace
}  // namespace octavo
