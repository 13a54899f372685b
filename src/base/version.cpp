#include "base/version.h"

namespace octavo {

const char* const kVersion = OCTAVO_VERSION;

}  // namespace octavo
