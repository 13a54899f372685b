// Generation quantises as training does: the activation of each Linear layer by the same cast, to
// the same codes.
#include <numeric>
#include <set>

#include "engine/engine_testing.h"
#include "engine/weight_writer.h"
#include "ops/scaling_test.h"
#include "passes/join_products.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::architecture_of;
using test::kBlocks;

StepOptions training(std::int64_t seq, const Target& target) {
    StepOptions o = test::tiny_options(Family::llama, "blockwise");
    o.architecture = architecture_of(kBlocks);
    o.batch = 1;
    o.seq = seq;
    o.target = target;
    return o;
}

// The casts of what products of the forward part read, by the parameters that these are with.
std::map<std::string, const Node*> activation_casts(const Graph& g) {
    std::map<std::string, const Node*> casts;
    const auto producer = [&](Value v) {
        const Node* n = &g.node(g.producer(v));
        while (std::holds_alternative<Reshape>(n->op)) n = &g.node(g.producer(n->in[0]));
        return n;
    };
    for (const Node& n : g.nodes()) {
        const auto* product = std::get_if<Matmul>(&n.op);
        if (!product || product->kind != MatmulKind::fprop || !is_fp8(g.type(n.in[0]).dtype)) {
            continue;
        }
        const auto* weight = std::get_if<Load>(&producer(n.in[1])->op);
        if (!weight) {
            ADD_FAILURE() << n.label << ": not a weight as it lies in State";
            continue;
        }
        for (const std::string& p : joined_parts(parameter_of(weight->name))) {
            EXPECT_TRUE(casts.emplace(p, producer(n.in[0])).second) << p;
        }
    }
    return casts;
}

// How values become codes: not where they come from, nor which copies there are.
BlockQuantise rule_of(const Node& cast) {
    BlockQuantise op;
    if (const auto* fused = std::get_if<RmsNormQuantise>(&cast.op)) {
        op = fused->quantise;
    } else if (const auto* alone = std::get_if<BlockQuantise>(&cast.op)) {
        op = *alone;
    } else {
        ADD_FAILURE() << op_name(cast.op) << " " << cast.label;
    }
    op.of = QuantiseSource::value;
    op.copies = Copies::rows;
    return op;
}

Graph rollout(const StepOptions& o, std::int64_t batch, std::int64_t time) {
    const CacheForm form{.blocks = 4, .block = 16, .table = 4};
    return body_graph(o.architecture, o.recipe, batch, time, batch, form, false, o.target);
}

TEST(RolloutCasts, AreThoseOfTraining) {
    Target fused = test::backend().target();
    fused.fused_quantisers = fused.reads_joined = true;
    for (const Target& target : {test::backend().target(), fused}) {
        const StepOptions o = training(16, target);
        const Graph micro = micro_graph(o, false), eval = eval_graph(o);
        const auto want = activation_casts(micro);
        ASSERT_EQ(want.size(), 2u * 7);
        const BlockQuantise rule{.to = Dtype::e4m3,
                                 .scaling = scaling_of(*o.recipe.activation),
                                 .rounding = o.recipe.activation->rounding,
                                 .rule = o.recipe.activation->block_rule,
                                 .floor = o.recipe.activation->floor};
        for (const Graph& g : {eval, rollout(o, 1, 16), rollout(o, 8, 1)}) {
            const auto got = activation_casts(g);
            EXPECT_EQ(got.size(), want.size());
            for (const auto& [parameter, cast] : want) {
                SCOPED_TRACE(parameter);
                ASSERT_TRUE(got.contains(parameter));
                EXPECT_EQ(rule_of(*cast), rule);
                EXPECT_EQ(rule_of(*got.at(parameter)), rule);
            }
        }
    }
}

// The same prompt as one micro-batch and as a step of generation, from the same weights. All that a
// layer reads before attention is the same in both, and whatever is the same has the same codes.
TEST(RolloutCasts, GiveTheCodesOfTraining) {
    constexpr std::int64_t kSeq = 48;
    const StepOptions o = training(kSeq, test::backend().target());
    const auto with_casts = [](Graph g) {
        for (const auto& [parameter, cast] : activation_casts(g)) {
            const Value codes = cast->out[0], x = cast->in[0];
            g.add_output("codes/" + parameter, codes);
            g.add_output("x/" + parameter, x);
        }
        return g;
    };
    const Graph micro = with_casts(micro_graph(o, false)), body = with_casts(rollout(o, 1, kSeq));
    Program trainer(test::backend()), engine(test::backend());
    trainer.add("run", micro);
    trainer.add("refresh", refresh_graph(o.recipe, micro));
    engine.add("run", body);
    for (const Parameter& p : parameters(o.architecture)) {
        trainer.state().declare(p.name, {Dtype::f32, p.shape});
    }
    for (Program* p : {&trainer, &engine}) {
        p->allocate(test::kNoLimit);
        initialise_scales(p->state());
    }
    for (const Parameter& p : parameters(o.architecture)) {
        write_values(trainer.state(), p.name, initial_values(p, 3));
    }
    trainer.run("refresh");
    WeightWriter writer(test::backend(), o.recipe, parameters(o.architecture),
                        working_weights(o.recipe, body));
    writer.write(engine.state(), test::weights_of(kBlocks));

    const auto ids = test::random_prompt(kSeq, 1, o.architecture.vocab_size);
    std::vector<std::int32_t> counted(kSeq), zeros(kSeq, 0);
    std::iota(counted.begin(), counted.end(), 0);
    const float weight = 1.0f / kSeq;
    trainer.write_input("run", "ids", ids.data());
    trainer.write_input("run", "targets", ids.data());
    trainer.write_input("run", "weight", &weight);
    engine.write_input("run", "ids", ids.data());
    engine.write_input("run", "positions", counted.data());
    engine.write_input("run", "slots", counted.data());
    engine.write_input("run", "sequences", zeros.data());
    engine.write_input("run", "tables", counted.data());
    trainer.run("run");
    engine.run("run");
    int same = 0, alone = 0;
    const auto body_casts = activation_casts(body);
    for (const auto& [parameter, cast] : activation_casts(micro)) {
        SCOPED_TRACE(parameter);
        const auto read = [&, name = parameter](Program& p, const std::string& what) {
            return test::read_tensor(p.plan("run").output(what + name));
        };
        const test::HostTensor x = read(trainer, "x/"), y = read(engine, "x/");
        const test::HostTensor a = read(trainer, "codes/"), b = read(engine, "codes/");
        EXPECT_GT(std::set<std::byte>(a.codes.begin(), a.codes.end()).size(), 50u);
        if (x.codes == y.codes) {
            ++same;
            EXPECT_EQ(a.codes, b.codes);
            EXPECT_EQ(a.scales, b.scales);
        }
        // Behind attention both may have rounded otherwise: then each has the codes of its own.
        for (const auto& [of, in, out] :
             {std::tuple{cast, &x, &a}, {body_casts.at(parameter), &y, &b}}) {
            const auto* op = std::get_if<BlockQuantise>(&of->op);
            if (!op || op->of != QuantiseSource::value) continue;  // computes what it quantises
            ++alone;
            test::expect_identical(test::run(test::as_is(rule_of(*cast)), {*in})[0], *out);
        }
    }
    EXPECT_GE(same, 3);
    EXPECT_GE(alone, test::on_cuda() ? 0 : 2 * 2 * 7);
}

}  // namespace
}  // namespace octavo
