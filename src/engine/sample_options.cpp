#include "engine/sample_options.h"

#include "base/error.h"

namespace octavo {

void check_options(const SampleOptions& o) {
    if (!(o.temperature >= 0)) fail_usage("temperature must be 0 or more, got {}", o.temperature);
    if (o.top_k < 0) fail_usage("top-k must be 0 (all) or more, got {}", o.top_k);
    if (!(o.top_p > 0 && o.top_p <= 1)) fail_usage("top-p must be in (0, 1], got {}", o.top_p);
}

}  // namespace octavo
