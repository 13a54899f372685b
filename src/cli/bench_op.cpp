#include "cli/bench_op.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "cli/bench_report.h"
#include "cli/device.h"
#include "graph/builder.h"
#include "ops/delayed_quantise.h"
#include "recipes/recipe.h"
#include "runtime/program.h"
#include "runtime/random_fill.h"
#include "runtime/roofline.h"

namespace octavo {
namespace {

// What a case is built for: activations of this dtype with `rows` tokens of `columns`.
struct Sizes {
    std::int64_t rows, columns;
    Dtype dtype;

    Type matrix() const { return {dtype, {rows, columns}}; }
    Type vector() const { return {accumulator(dtype), {columns}}; }
    Type per_row() const { return {accumulator(dtype), {rows}}; }
};

using TypesOf = std::function<std::vector<Type>(const Sizes&)>;

struct OpCase {
    std::string name;
    // Emits one op on Inputs and Loads of `b`.
    std::function<void(Builder& b, const Sizes&)> build;
};

using Q = QuantiseSource;

constexpr int kWindow = 16, kHeadDim = 128;
const Type kOne{Dtype::f32, {1}};

Value fresh(Builder& b, const Type& type) {
    return b.input(fmt::format("x{}", b.graph().nodes().size()), type);
}

Values fresh(Builder& b, const std::vector<Type>& types) {
    Values values;
    for (const Type& t : types) values.push_back(fresh(b, t));
    return values;
}

// The op on operands of these types, all results wanted.
OpCase plain(std::string name, const Op& op, TypesOf types) {
    return {std::move(name), [op, types](Builder& b, const Sizes& s) {
                const Values out = b.emit(op, fresh(b, types(s)));
                for (const Value v : out) b.output(fmt::format("y{}", v.id), v);
            }};
}

// A delayed cast whose window is filled: the counter is a Load of a number that is large enough.
OpCase quantise(std::string name, const DelayedQuantise& op, TypesOf types) {
    return {std::move(name), [op, types](Builder& b, const Sizes& s) {
                Values in = fresh(b, types(s));
                for (std::size_t r = 0; r < quantised_results(op.of); ++r) {
                    in.push_back(fresh(b, {Dtype::f32, {kWindow}}));
                    in.push_back(b.load(fmt::format("counter{}", r), {Dtype::i32, {1}}));
                    in.push_back(fresh(b, kOne));
                }
                for (const Value v : b.emit(op, in)) b.output(fmt::format("y{}", v.id), v);
            }};
}

// Both copies under scales that follow from the tensor.
OpCase blocks(std::string name, const Scaling& scaling, Q of, std::size_t operands) {
    return plain(std::move(name),
                 BlockQuantise{.scaling = scaling, .of = of, .copies = Copies::both},
                 [=](const Sizes& s) { return std::vector<Type>(operands, s.matrix()); });
}

// In place, as an update is.
OpCase adamw(std::string name, Dtype w, Dtype g, MomentFormat m, MomentFormat v, AdamW op) {
    return {std::move(name), [=](Builder& b, const Sizes& s) {
                const auto state = [&](const char* which, const MomentFormat& format) {
                    return b.load(which, state_type(format, {s.rows, s.columns}));
                };
                const Values next = b.emit(
                    op, {state("w", w), state("g", g), state("m", m), state("v", v), fresh(b, kOne),
                         b.constant({Dtype::f32, {3}}, 0.5), b.load("step", {Dtype::i32, {1}})});
                b.store("w", next[0]);
                b.store("m", next[1]);
                b.store("v", next[2]);
            }};
}

// Its integers are a State's, which are large: all ids are tokens, and one that is padding is
// scored, which is all that a draw does but the search among its last few ids. Reals of 1 cut
// nothing.
OpCase sample(std::string name, double reals) {
    return {std::move(name), [=](Builder& b, const Sizes& s) {
                const Values in{fresh(b, {Dtype::f32, {s.rows, s.columns}}),
                                b.constant({Dtype::f32, {s.rows, 2}}, reals),
                                b.load("integers", {Dtype::i32, {s.rows, 4}})};
                for (const Value v : b.emit(Sample{}, in)) b.output(fmt::format("y{}", v.id), v);
            }};
}

std::vector<Type> heads(const Sizes& s, int count) {
    const Type t{s.dtype, {1, s.rows, s.columns / kHeadDim, kHeadDim}};
    return std::vector<Type>(static_cast<std::size_t>(count), t);
}

std::vector<OpCase> cases() {
    using S = const Sizes&;
    const auto alike = [](int n) {
        return [n](S s) { return std::vector<Type>(static_cast<std::size_t>(n), s.matrix()); };
    };
    const Dtype f32 = Dtype::f32, bf16 = Dtype::bf16;
    const Scaling rows{Granularity::row}, lines{Granularity::block_1x128};
    const Scaling squares{Granularity::block_128x128};
    const auto groups = [](int group) {
        return Scaling{.granularity = Granularity::micro, .group = group};
    };
    const DelayedQuantise e4m3{.rule = {.to = Dtype::e4m3}, .transpose = true};
    const DelayedQuantise e5m2{.rule = {.to = Dtype::e5m2}, .transpose = true};
    const auto of = [](DelayedQuantise op, Q source, std::optional<ScaleAlong> scaled = {}) {
        op.of = source;
        op.scaled = scaled;
        return op;
    };
    const auto gradients = [](S s) {
        return std::vector{s.matrix(), s.matrix(), s.matrix(), s.per_row()};
    };
    const AdamW random{.stochastic = true};
    const auto both = [](Q source) {
        return Cast{.to = Dtype::e4m3, .transpose = true, .of = source};
    };
    const auto sum = [](S s) {
        return std::vector{s.matrix(), kOne, s.matrix(), kOne, kOne, kOne};
    };
    return {
        plain("add", Add{}, alike(2)),
        plain("bias_add", BiasAdd{}, [](S s) { return std::vector{s.matrix(), s.vector()}; }),
        plain("sum_rows", SumRows{}, alike(1)),
        plain("cast to f32", Cast{f32}, alike(1)),
        plain("amax", Amax{}, alike(1)),
        plain("transpose", Transpose{},
              [](S s) { return std::vector{Type{Dtype::e4m3, {s.rows, s.columns}, kPerTensor}}; }),
        plain("rms_norm", RmsNorm{}, [](S s) { return std::vector{s.matrix(), s.vector()}; }),
        plain("rms_norm, statistics", RmsNorm{.statistics = true},
              [](S s) { return std::vector{s.matrix(), s.vector()}; }),
        plain("rms_norm_grad", RmsNormGrad{},
              [](S s) { return std::vector{s.matrix(), s.vector(), s.per_row(), s.matrix()}; }),
        plain("rms_norm_grad + residual", RmsNormGrad{},
              [](S s) {
                  return std::vector{s.matrix(), s.vector(), s.per_row(), s.matrix(), s.matrix()};
              }),
        plain(
            "rms_norm_grad, measured", RmsNormGrad{DynamicRescale{}},
            [](S s) { return std::vector{s.matrix(), s.vector(), s.per_row(), s.matrix(), kOne}; }),
        plain("layer_norm", LayerNorm{},
              [](S s) { return std::vector{s.matrix(), s.vector(), s.vector()}; }),
        plain("layer_norm_grad + residual", LayerNormGrad{},
              [](S s) {
                  return std::vector{s.matrix(),  s.vector(), s.per_row(),
                                     s.per_row(), s.matrix(), s.matrix()};
              }),
        plain("swiglu", SwiGlu{}, alike(2)),
        plain("swiglu_grad", SwiGluGrad{}, alike(3)),
        plain("smooth_swiglu, tokens", SmoothSwiGlu{.amax = true}, alike(2)),
        plain("smooth_swiglu, channels", SmoothSwiGlu{.axis = Axis::column, .amax = true},
              alike(2)),
        plain("scale_along, tokens", ScaleAlong{Axis::row},
              [](S s) { return std::vector{s.matrix(), s.per_row()}; }),
        plain("scale_along, tokens + residual", ScaleAlong{Axis::row},
              [](S s) { return std::vector{s.matrix(), s.per_row(), s.matrix()}; }),
        plain("scale_along, channels", ScaleAlong{Axis::column},
              [](S s) { return std::vector{s.matrix(), s.vector()}; }),
        plain("gelu", Gelu{}, alike(1)),
        plain("gelu_grad", GeluGrad{}, alike(2)),
        plain("rope", Rope{.max_positions = 1 << 30}, [](S s) { return heads(s, 1); }),
        plain("quantise", Quantise{Dtype::e4m3}, [](S s) { return std::vector{s.matrix(), kOne}; }),
        plain("quantise, transposed too", Quantise{Dtype::e4m3, Copies::both},
              [](S s) { return std::vector{s.matrix(), kOne}; }),
        plain("quantise, from f16 under a scale", Quantise{Dtype::e4m3},
              [](S s) {
                  return std::vector{Type{Dtype::f16, {s.rows, s.columns}, kPerTensor}, kOne};
              }),
        quantise("delayed_quantise", DelayedQuantise{}, alike(1)),
        quantise("delayed_quantise, transposed too", e4m3, alike(1)),
        quantise("scale_along, tokens -> e5m2, transposed too",
                 of(e5m2, Q::value, ScaleAlong{Axis::row}),
                 [](S s) { return std::vector{s.matrix(), s.per_row()}; }),
        quantise("normalise, rms -> e4m3, transposed too", of(e4m3, Q::normalise),
                 [](S s) { return std::vector{s.matrix(), s.vector(), s.per_row()}; }),
        quantise("swiglu -> e4m3, transposed too", of(e4m3, Q::swiglu), alike(2)),
        quantise("swiglu_grad -> e5m2, transposed too", of(e5m2, Q::swiglu_grad), alike(3)),
        quantise("swiglu_grad / tokens -> e5m2, transposed too",
                 of(e5m2, Q::swiglu_grad, ScaleAlong{Axis::row, true}), gradients),
        plain("cast to e4m3, transposed too", both(Q::value), alike(1)),
        plain("swiglu, cast to e4m3, transposed too", both(Q::swiglu), alike(2)),
        plain("swiglu_grad, cast to e4m3, transposed too", both(Q::swiglu_grad), alike(3)),
        plain("scaled_add", ScaledAdd{}, sum),
        plain("scaled_add, cast to e4m3, transposed too", ScaledAdd{.cast = both(Q::value)}, sum),
        plain("dynamic_rescale", DynamicRescale{},
              [](S s) { return std::vector{s.matrix(), kOne}; }),
        blocks("block_quantise, 1x128", lines, Q::value, 1),
        blocks("swiglu -> 1x128", lines, Q::swiglu, 2),
        blocks("swiglu_grad -> 1x128", lines, Q::swiglu_grad, 3),
        blocks("block_quantise, 128x128", squares, Q::value, 1),
        blocks("block_quantise, rows", rows, Q::value, 1),
        blocks("block_quantise, groups of 32", groups(32), Q::value, 1),
        blocks("block_quantise, groups of 128", groups(128), Q::value, 1),
        blocks("swiglu -> groups of 128", groups(128), Q::swiglu, 2),
        blocks("swiglu_grad -> groups of 128", groups(128), Q::swiglu_grad, 3),
        adamw("adamw, f32", f32, f32, f32, f32, {}),
        adamw("adamw, bf16", bf16, bf16, bf16, bf16, random),
        adamw("adamw, w g bf16, m e4m3, v f16", bf16, bf16, Dtype::e4m3, Dtype::f16, random),
        adamw("adamw, w f16, g e4m3, m v f32", Dtype::f16, Dtype::e4m3, f32, f32, {}),
        adamw("adamw, w f16, g m e4m3, v f16", Dtype::f16, Dtype::e4m3, Dtype::e4m3, Dtype::f16,
              {}),
        adamw("adamw, w g bf16, m e4m3, v e5m2", bf16, bf16, Dtype::e4m3, Dtype::e5m2, random),
        adamw("adamw, w f16, g f32, m e4m3, v e5m2, floor", Dtype::f16, f32, Dtype::e4m3,
              Dtype::e5m2, {.v_floor = true}),
        adamw("adamw, the same, stochastic moments", Dtype::f16, f32, Dtype::e4m3, Dtype::e5m2,
              {.stochastic_moments = true, .v_floor = true}),
        adamw("adamw, w g f32, m v expanded", f32, f32, kExpandedMoment, kExpandedMoment, {}),
        plain("global_norm", GlobalNorm{}, alike(4)),
        plain("embedding", Embedding{},
              [](S s) { return std::vector{s.matrix(), Type{Dtype::i32, {s.rows}}}; }),
        {"embedding_grad",
         [](Builder& b, const Sizes& s) {
             const Type ids{Dtype::i32, {s.rows}};
             b.output("y", b.one(EmbeddingGrad{s.rows}, fresh(b, {s.matrix(), ids})));
         }},
        sample("sample", 1),
        sample("sample, T 0.5, top-p 0.5", 0.5),
    };
}

struct Measured {
    double seconds = 0, bytes = 0;
    std::string kernel;
};

// Of the case's op; median of `repeats` runs after one.
Measured measure(Backend& backend, const OpCase& c, const Sizes& sizes, std::int64_t repeats) {
    Graph g;
    Builder b(g);
    c.build(b, sizes);
    Program program(backend);
    program.add("op", g);
    program.allocate(backend.available_bytes());
    Plan& plan = program.plan("op");
    for (const Node& n : plan.graph().nodes()) {
        if (const auto* input = std::get_if<Input>(&n.op)) {
            fill_random(backend, plan.input(input->name), 1, sizes.rows);
        }
    }
    for (const State::Entry& e : program.state().entries()) {
        // Counters are past any window; moments and gradients are random.
        if (e.type.dtype == Dtype::i32) {
            const auto count = static_cast<std::size_t>(e.type.shape.elements());
            const std::vector<std::int32_t> many(count, 1 << 20);
            program.state().write(e.name, many.data());
        } else {
            // Squares are not negative.
            fill_random(backend, e.tensor, 2, 1, e.name == "v" ? 0.0f : -0.5f);
        }
    }
    std::vector<double> times;
    std::int32_t timed = -1;  // the last node with operands, and the last interval
    for (std::int64_t i = 0; i <= repeats; ++i) {
        const auto stopwatch = backend.make_stopwatch();
        stopwatch->mark();
        plan.run([&](std::int32_t node) {
            stopwatch->mark();
            if (!g.node(node).in.empty()) timed = node;
        });
        const double seconds = stopwatch->intervals().back();
        if (i > 0) times.push_back(seconds);
    }
    const Node& n = g.node(timed);
    Measured result{.kernel = std::string(plan.choice(timed).kernel)};
    result.bytes = work_of(g, n).bytes;
    result.seconds = median(times);
    return result;
}

int bench_op(const Args& args) {
    const auto backend = open_backend(args.config().runtime);
    const Sizes sizes{args.flag<std::int64_t>("rows"), args.flag<std::int64_t>("columns"),
                      dtype_named(args.flag<std::string>("dtype")).value_or(Dtype::bf16)};
    if (sizes.columns % kHeadDim != 0) {
        fail_usage("--columns: expected a multiple of {}, got {}", kHeadDim, sizes.columns);
    }
    const auto& only = args.flag<std::string>("only");
    fmt::print("{} x {} in {}; bytes are operands and results, each once\n", sizes.rows,
               sizes.columns, name(sizes.dtype));
    fmt::print("{:<40} {:>12} {:>12} {:>12}  {}\n", "op", "ms", "MB", "GB/s", "kernel");
    for (const OpCase& c : cases()) {
        if (c.name.find(only) == std::string::npos) continue;
        const Measured m = measure(*backend, c, sizes, args.flag<std::int64_t>("repeats"));
        fmt::print("{:<40} {:>12.4f} {:>12.1f} {:>12.1f}  {}\n", c.name, m.seconds * 1e3,
                   m.bytes * 1e-6, m.bytes / m.seconds * 1e-9, m.kernel);
        Json j = machine_facts(*backend);
        j["bench"] = "op";
        j["op"] = c.name;
        j["rows"] = sizes.rows;
        j["columns"] = sizes.columns;
        j["dtype"] = name(sizes.dtype);
        j["ms"] = m.seconds * 1e3;
        j["mb"] = m.bytes * 1e-6;
        j["gb_per_s"] = m.bytes / m.seconds * 1e-9;
        j["kernel"] = m.kernel;
        append_result(args, j);
    }
    return 0;
}

}  // namespace

Verb bench_op_verb() {
    return {.name = "op",
            .help = "Single ops on random operands, by the bytes they have to move.",
            .run = bench_op,
            .config = true,
            .flags = {{.name = "rows",
                       .initial = std::int64_t{16384},
                       .help = "tokens",
                       .rule = between(1, 1 << 24)},
                      {.name = "columns",
                       .initial = std::int64_t{4096},
                       .help = "width of a token, a multiple of 128",
                       .rule = between(128, 1 << 20)},
                      {.name = "dtype",
                       .initial = std::string("bf16"),
                       .help = "of activations",
                       .rule = one_of({"bf16", "f16", "f32"})},
                      {.name = "only",
                       .initial = std::string(),
                       .help = "ops whose line holds this text"},
                      {.name = "repeats",
                       .initial = std::int64_t{11},
                       .help = "timed runs, of which the median counts",
                       .rule = between(1, 1 << 20)},
                      json_flag()},
            .shorthands = {{"backend", "runtime.backend"}}};
}

}  // namespace octavo
