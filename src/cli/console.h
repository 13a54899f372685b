// What the console can show.
#pragma once

#include <cstdio>

namespace octavo {

// Whether `stream` is a terminal.
bool is_terminal(std::FILE* stream);

// Whether to colour text: on terminals, unless NO_COLOR is set (no-color.org) or TERM is dumb.
bool use_color(std::FILE* stream);

}  // namespace octavo
