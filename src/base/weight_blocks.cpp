#include "base/weight_blocks.h"

namespace octavo {
namespace {

// What a Linear layer is joined to by other programs; itself otherwise.
std::string joined(const std::string& name) {
    for (const std::string_view part : {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}) {
        const std::size_t at = name.rfind(part);
        if (at == name.npos) continue;
        return name.substr(0, at) + (part.size() == 6 ? "qkv" : "gate_up");
    }
    return name;
}

}  // namespace

bool has_whole_blocks(const Shape& s) {
    return s[-2] % kWeightBlock == 0 && s[-1] % kWeightBlock == 0;
}

std::set<std::string> with_joined(std::span<const NamedShape> weights,
                                  const std::function<bool(const NamedShape&)>& chosen) {
    std::set<std::string> groups, names;
    for (const NamedShape& w : weights) {
        if (chosen(w)) groups.insert(joined(w.name));
    }
    for (const NamedShape& w : weights) {
        if (groups.contains(joined(w.name))) names.insert(w.name);
    }
    return names;
}

}  // namespace octavo
