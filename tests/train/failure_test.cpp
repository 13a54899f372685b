#include "train/failure.h"

#include <limits>

#include "io/safetensors.h"
#include "io/scratch.h"
#include "train/golden.h"

namespace octavo {
namespace {

TEST(Failure, LeavesTheBatchAndWhatWasFound) {
    const Scratch scratch;
    const std::vector<std::int32_t> ids = {1, 2, 3, 4, 5, 6}, targets = {2, 3, -1, 5, 6, -1};
    write_failure(scratch / "failure",
                  {.what = "loss",
                   .value = std::numeric_limits<double>::quiet_NaN(),
                   .step = 42,
                   .first = NonFinite{"%83 (matmul of layers.2)", "matmul", 7}},
                  ids, targets, 2);
    EXPECT_EQ(Scratch::read(scratch / "failure/failure.json"),
              "{\n  \"step\": 42,\n  \"what\": \"loss\",\n  \"value\": \"nan\",\n"
              "  \"tensor\": \"%83 (matmul of layers.2)\",\n  \"op\": \"matmul\",\n"
              "  \"elements\": 7\n}\n");
    const SafetensorsFile batch(scratch / "failure/batch.safetensors");
    EXPECT_EQ(batch.at("input_ids").shape, (Shape{2, 3}));
    EXPECT_EQ(test::values<std::int32_t>(batch.at("input_ids")), ids);
    EXPECT_EQ(test::values<std::int32_t>(batch.at("targets")), targets);
}

TEST(Failure, SaysOnlyWhatItKnows) {
    const Scratch scratch;
    write_failure(scratch / "f", {.what = "gradient norm", .value = 1e300, .step = 1, .first = {}},
                  {}, {}, 1);
    const std::string json = Scratch::read(scratch / "f/failure.json");
    EXPECT_TRUE(contains(json, "\"what\": \"gradient norm\""));
    EXPECT_EQ(json.find("tensor"), std::string::npos);
}

}  // namespace
}  // namespace octavo
