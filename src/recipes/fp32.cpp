#include "recipes/table.h"

namespace octavo {

// Everything in f32: the yardstick of the tests.
Recipe fp32_recipe() { return {.name = "fp32"}; }

}  // namespace octavo
