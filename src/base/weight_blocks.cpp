#include "base/weight_blocks.h"

#include <map>

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

std::set<std::string> without_whole_blocks(std::span<const NamedShape> weights) {
    std::map<std::string, bool> whole;
    for (const NamedShape& w : weights) {
        const auto [group, fresh] = whole.try_emplace(joined(w.name), true);
        group->second &= w.shape[-2] % kWeightBlock == 0 && w.shape[-1] % kWeightBlock == 0;
    }
    std::set<std::string> names;
    for (const NamedShape& w : weights) {
        if (!whole.at(joined(w.name))) names.insert(w.name);
    }
    return names;
}

}  // namespace octavo
