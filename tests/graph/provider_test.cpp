#include <gtest/gtest.h>

#include "graph/builder.h"
#include "graph/provider.h"

namespace octavo {
namespace {

const Type kOne{Dtype::f32, {1}};

struct Small {
    Graph g;
    Builder b{g};
    Value x = b.input("x", {Dtype::f32, {4, 32}});
    Value one = b.constant(kOne, 1);

    Value scale(Value amax) { return b.one(ComputeScale{}, {amax, one}); }
    Value quantised(Value with_scale) { return b.one(Quantise{}, {x, with_scale}); }
    Value amax() { return b.one(Amax{}, {x}); }
    Value predicted() {
        const Value schedule = b.input("schedule", {Dtype::f32, {3}});
        return b.one(PredictAmax{}, {b.load("scale.bound/w", kOne), schedule, one});
    }
    Values delayed() {
        return {b.load("history", {Dtype::f32, {4}}), b.load("counter", {Dtype::i32, {1}}),
                b.load("scale", kOne)};
    }
};

TEST(ScaleProvider, IsThatOfTheScale) {
    Small s;
    EXPECT_EQ(scale_provider(s.g, s.quantised(s.scale(s.amax()))), "current");
    EXPECT_EQ(scale_provider(s.g, s.quantised(s.scale(s.predicted()))), "predicted");
    EXPECT_EQ(scale_provider(s.g, s.quantised(s.b.load("work.scale/w", kOne))), "recorded");
    EXPECT_EQ(scale_provider(s.g, s.quantised(s.one)), "");
    Values in{s.amax()};
    for (const Value v : s.delayed()) in.push_back(v);
    EXPECT_EQ(scale_provider(s.g, s.quantised(s.b.emit(DelayedScale{}, in)[0])), "delayed");
    in[0] = s.x;
    const Values fused = s.b.emit(DelayedQuantise{}, in);
    EXPECT_EQ(scale_provider(s.g, fused[0]), "delayed");
    EXPECT_EQ(scale_provider(s.g, s.quantised(fused[2])), "delayed");  // as recompute casts again
    EXPECT_EQ(scale_provider(s.g, s.b.one(BlockQuantise{}, {s.x})), "current");
    EXPECT_EQ(scale_provider(s.g, s.b.cast(s.x, Dtype::e5m2)), "propagated");
    EXPECT_EQ(scale_provider(s.g, s.x), "");
    EXPECT_EQ(scale_provider(s.g, s.amax()), "");
}

TEST(ScaleProvider, StaysWithTensorsThatMove) {
    Small s;
    const Value q = s.b.one(Transpose{}, {s.quantised(s.scale(s.predicted()))});
    EXPECT_EQ(scale_provider(s.g, s.b.reshape(q, {128})), "predicted");
}

TEST(ScaleProvider, OfStateIsWhatItWasStoredWith) {
    Small s;
    const Type type{Dtype::e4m3, {4, 32}, kPerTensor};
    s.b.store("measured", s.quantised(s.scale(s.amax())));
    s.b.store("predicted", s.quantised(s.scale(s.predicted())));
    s.b.store("scale alone", s.scale(s.predicted()));
    s.b.store("wide", s.x);
    StoredProviders stored;
    note_stores(s.g, stored);
    EXPECT_EQ(stored, (StoredProviders{{"measured", "current"},
                                       {"predicted", "predicted"},
                                       {"scale alone", "predicted"}}));
    Small reader;
    const Value measured = reader.b.load("measured", type),
                moved = reader.b.load("predicted", type);
    const Value cast = reader.quantised(reader.b.load("scale alone", kOne));
    EXPECT_EQ(scale_provider(reader.g, measured, stored), "recorded");
    EXPECT_EQ(scale_provider(reader.g, moved, stored), "predicted");
    EXPECT_EQ(scale_provider(reader.g, cast, stored), "predicted");
    EXPECT_EQ(scale_provider(reader.g, moved), "recorded");
}

}  // namespace
}  // namespace octavo
