// Facts about the machine that the program runs on.
#pragma once

#include <string>
#include <vector>

namespace octavo {

// The processor's own name for itself, such as "AMD EPYC".
std::string processor_name();

struct ProcessorFeature {
    const char* name;
    bool present;
    const char* without;  // what its absence means for a run
};

// The vector extensions that matter to Octavo. Empty on other processors than x86.
std::vector<ProcessorFeature> processor_features();

}  // namespace octavo
