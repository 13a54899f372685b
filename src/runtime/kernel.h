// Kernels and their registry.
//
// For each op a backend has an ordered list of kernels, fastest first; each either takes a node or
// says why not, and the last takes everything. The plan records the choice and the refusals.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.h"
#include "runtime/tensor.h"

namespace octavo {

// A node as a kernel sees it when the plan is made.
struct NodeView {
    const Op& op;
    std::span<const Type> in, out;
    std::string_view label;
};

struct KernelCall {
    std::span<const TensorRef> in, out;
    std::byte* scratch;
};

// What `prepare` leaves for run time: everything shape-dependent is decided already.
struct Prepared {
    std::function<void(const KernelCall&)> run;
    std::int64_t scratch_bytes = 0;
};

using Refusal = std::optional<std::string>;  // nullopt: the kernel takes the node

struct Kernel {
    std::string_view name;
    Refusal (*reject)(const NodeView&);
    Prepared (*prepare)(const NodeView&);
    // Whether a result may take an operand's memory where the op's rules allow it.
    bool in_place = true;
};

// For kernels that take whatever the op's type rule lets through.
inline Refusal takes_all(const NodeView&) { return std::nullopt; }

class KernelRegistry {
  public:
    // In preference order: call once per kernel, the reference last.
    template <class T>
    void add(Kernel kernel) {
        kernels_[op_index<T>()].push_back(kernel);
    }
    std::span<const Kernel> kernels(const Op& op) const { return kernels_[op.index()]; }

  private:
    std::array<std::vector<Kernel>, std::variant_size_v<OpVariant>> kernels_;
};

// The first kernel that takes an op on operands of these types, as a step of another kernel.
Prepared prepare_op(const KernelRegistry&, const Op&, std::span<const Type> in);
// The same for a product of a and b (and an accumulator like the result).
Prepared prepare_matmul(const KernelRegistry&, const Matmul&, const Type& a, const Type& b);

}  // namespace octavo
