// Runs every kernel that takes a node, not only the one a plan would choose: on exactly the scratch
// it asked for, filled with NaN, as its results are.
#pragma once

#include "ops/op_test.h"

namespace octavo::test {

// Codes of an 8-bit dtype under one scale.
HostTensor scaled_tensor(Dtype dtype, Shape shape, std::uint64_t seed, float scale);

std::vector<HostTensor> run_kernel(const Kernel& kernel, const NodeView& node,
                                   const std::vector<HostTensor>& in);

// check(results), or check(name, results), for each kernel of the backend that takes this node;
// returns their names.
using NamedCheck = std::function<void(std::string_view, std::vector<HostTensor>)>;
std::vector<std::string> for_each_kernel(const Op& op, const std::vector<HostTensor>& in,
                                         const NamedCheck& check);
template <class Check>
    requires std::is_invocable_v<Check, std::vector<HostTensor>>
std::vector<std::string> for_each_kernel(const Op& op, const std::vector<HostTensor>& in,
                                         Check&& check) {
    return for_each_kernel(
        op, in, [&](std::string_view, std::vector<HostTensor> out) { check(std::move(out)); });
}

}  // namespace octavo::test
