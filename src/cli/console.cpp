#include "cli/console.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace octavo {

bool is_terminal(std::FILE* stream) { return isatty(fileno(stream)) == 1; }

bool use_color(std::FILE* stream) {
    const char* no_color = std::getenv("NO_COLOR");
    const char* term = std::getenv("TERM");
    return is_terminal(stream) && !(no_color && *no_color) &&
           std::string_view(term ? term : "dumb") != "dumb";
}

}  // namespace octavo
