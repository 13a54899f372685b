#pragma once

namespace octavo {

// The version of the project, from CMakeLists.txt.
extern const char* const kVersion;

}  // namespace octavo
