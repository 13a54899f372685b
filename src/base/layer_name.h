// Layers by the names that settings give them: parts of a label between dots, in a row.
//
//     down_proj                     that of every block
//     layers.0                      all of the first block, and not of the tenth
//     layers.0.mlp.down_proj        one layer, as is the whole label
#pragma once

#include <string_view>

namespace octavo {

inline bool names_layer(std::string_view name, std::string_view label) {
    const auto ends_part = [&](std::size_t at) { return at == label.size() || label[at] == '.'; };
    for (auto at = label.find(name); at != label.npos; at = label.find(name, at + 1)) {
        const bool begins_part = at == 0 || label[at - 1] == '.';
        if (begins_part && ends_part(at + name.size())) return !name.empty();
    }
    return false;
}

}  // namespace octavo
