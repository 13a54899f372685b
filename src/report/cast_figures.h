// Heat maps of what 8 bits did to the tensors of a run.
#pragma once

#include <string>
#include <vector>

#include "report/heat_map.h"
#include "report/run.h"

namespace octavo {

struct CastFigure {
    std::string title;          // "Flushed values"
    std::string note;           // what the numbers mean, or that there is nothing to show
    std::vector<HeatMap> maps;  // one for each role of a tensor
};

// One figure for each number: values, scales, saturated, flushed, error. Neighbouring steps share a
// column where there are more than `columns` of them; the largest number counts. `id` begins the
// ids of the maps. Empty for a run that measured nothing.
std::vector<CastFigure> cast_figures(const RunData& run, std::size_t columns,
                                     const std::string& id);

}  // namespace octavo
