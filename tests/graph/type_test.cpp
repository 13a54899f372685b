#include "graph/type.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

struct TypeCase {
    Type type;
    const char* text;
    std::int64_t data, scales, scale_bytes, groups, total;
};

const TypeCase kCases[] = {
    {{Dtype::bf16, {3, 5}}, "bf16[3, 5]", 30, 0, 0, 0, 64},
    {{Dtype::f32, {}}, "f32[]", 4, 0, 0, 0, 64},
    {{Dtype::f32, {0, 7}}, "f32[0, 7]", 0, 0, 0, 0, 0},
    {{Dtype::e4m3, {3, 130}, kPerTensor}, "e4m3[3, 130] x tensor", 390, 1, 4, 0, 448 + 64},
    {{Dtype::e4m3, {2, 3, 130}, {Granularity::row}},
     "e4m3[2, 3, 130] x row",
     780,
     6,
     24,
     0,
     832 + 64},
    {{Dtype::e4m3, {3, 130}, {Granularity::block_1x128}},
     "e4m3[3, 130] x 1x128",
     390,
     8,
     32,
     0,
     448 + 64},
    {{Dtype::e4m3, {129, 130}, {Granularity::block_128x128}},
     "e4m3[129, 130] x 128x128",
     16770,
     8,
     32,
     0,
     16832 + 64},
    {{Dtype::e5m2, {4}, {Granularity::tensor, Dtype::e8m0}},
     "e5m2[4] x tensor:e8m0",
     4,
     1,
     1,
     0,
     128},
    {{Dtype::e4m3, {3, 65}, {Granularity::micro, Dtype::f32, 32}},
     "e4m3[3, 65] x micro(32)",
     195,
     3,
     12,
     512,
     256 + 64 + 512},
    {{Dtype::e4m3, {3, 65}, kExpanded}, "e4m3[3, 65] x expanded", 195, 6, 24, 0, 256 + 64},
};

TEST(Type, BytesAndText) {
    for (const TypeCase& c : kCases) {
        SCOPED_TRACE(c.text);
        EXPECT_EQ(to_string(c.type), c.text);
        EXPECT_EQ(data_bytes(c.type), c.data);
        EXPECT_EQ(scale_count(c.type), c.scales);
        EXPECT_EQ(scale_bytes(c.type), c.scale_bytes);
        EXPECT_EQ(group_bytes(c.type), c.groups);
        EXPECT_EQ(total_bytes(c.type), c.total);
    }
}

// Golden vector 9 of blockwise scales, and the words of exponents beside it.
TEST(Type, ScalesLieWhereProductsReadThem) {
    const ScaleLayout runs = scale_layout({Dtype::e4m3, {5, 300}, {Granularity::block_1x128}});
    EXPECT_EQ(runs.scale_at(4, 2 * 128 + 7), 20);
    EXPECT_EQ(scale_count({Dtype::e4m3, {5, 300}, {Granularity::block_1x128}}), 3 * 8);
    const Type squares{Dtype::e4m3, {300, 520}, {Granularity::block_128x128}};
    EXPECT_EQ(scale_layout(squares).scale_at(129, 4 * 128), 12);
    EXPECT_EQ(scale_count(squares), 3 * 8);
    const Type micro{Dtype::e4m3, {130, 200}, {Granularity::micro, Dtype::f32, 64}};
    EXPECT_EQ(scale_layout(micro).group_at(129, 199), 256 * 2 + 129 * 2 + 1);
    EXPECT_EQ(group_bytes(micro), 2 * 256 * 2);
    EXPECT_EQ(scale_layout(micro).scale_at(129, 199), 129);
}

}  // namespace
}  // namespace octavo
