#include "base/layer_name.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

TEST(LayerName, IsWholePartsInARow) {
    const std::string down = "model.layers.1.mlp.down_proj";
    for (const char* name :
         {"down_proj", "mlp.down_proj", "layers.1", "layers", "1", "1.mlp.down_proj",
          "layers.1.mlp.down_proj", "model.layers.1.mlp.down_proj"}) {
        EXPECT_TRUE(names_layer(name, down)) << name;
    }
    for (const char* name : {"down", "proj", "layers.11", "layer", "layers.down_proj", "mlp.",
                             ".mlp", "", ".", "model.layers.1.mlp.down_proj.weight"}) {
        EXPECT_FALSE(names_layer(name, down)) << name;
    }
    EXPECT_FALSE(names_layer("layers.1", "model.layers.11.mlp.down_proj"));
    EXPECT_FALSE(names_layer("1", "model.layers.11.mlp.down_proj"));
    EXPECT_TRUE(names_layer("lm_head", "lm_head"));
}

}  // namespace
}  // namespace octavo
