// One function per recipe, each in the file of its name; the table in recipe.cpp lists them.
#pragma once

#include "recipes/recipe.h"

namespace octavo {

Recipe fp32_recipe();
Recipe bf16_recipe();
Recipe fp8_lm_recipe();
Recipe moss_recipe();
Recipe blockwise_recipe();
Recipe smooth_swiglu_recipe();
Recipe scalify_recipe();

}  // namespace octavo
