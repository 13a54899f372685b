// Runs every kernel that takes a node, not only the one a plan would choose: on exactly the scratch
// it asked for, filled with NaN, as its results are.
#pragma once

#include "ops/op_test.h"

namespace octavo::test {

// Codes of an 8-bit dtype under one scale.
inline HostTensor scaled_tensor(Dtype dtype, Shape shape, std::uint64_t seed, float scale) {
    HostTensor t = random_tensor(dtype, shape, seed, 3);
    t.type.scaling = kPerTensor;
    t.scales = {scale};
    for (double& v : t.values) v *= scale;
    return t;
}

// A tensor's memory, aligned as a plan aligns it, with a guard behind it.
class Memory {
  public:
    explicit Memory(std::int64_t bytes) : bytes_(bytes), buffer_(backend(), bytes + kGuard) {
        const std::vector<std::byte> poison(static_cast<std::size_t>(bytes + kGuard),
                                            std::byte{0xFF});
        backend().copy_in(buffer_.data(), poison.data(), std::ssize(poison));
    }
    std::byte* data() const { return buffer_.data(); }
    bool intact() const {
        std::vector<std::byte> guard(kGuard);
        backend().copy_out(guard.data(), buffer_.data() + bytes_, kGuard);
        return std::ranges::all_of(guard, [](std::byte b) { return b == std::byte{0xFF}; });
    }

  private:
    static constexpr std::int64_t kGuard = 64;
    std::int64_t bytes_;
    Buffer buffer_;
};

inline std::vector<HostTensor> run_kernel(const Kernel& kernel, const NodeView& node,
                                          const std::vector<HostTensor>& in) {
    const Prepared prepared = kernel.prepare(node);
    std::vector<Memory> memory;
    std::vector<TensorRef> operands, results;
    for (const HostTensor& t : in) {
        memory.emplace_back(total_bytes(t.type));
        operands.push_back(tensor_at(t.type, memory.back().data()));
        write_tensor(operands.back(), t);
    }
    for (const Type& t : node.out) {
        memory.emplace_back(total_bytes(t));
        results.push_back(tensor_at(t, memory.back().data()));
    }
    memory.emplace_back(prepared.scratch_bytes);
    prepared.run({operands, results, memory.back().data()});
    for (const Memory& m : memory) EXPECT_TRUE(m.intact()) << "written past the end";
    std::vector<HostTensor> out;
    for (const TensorRef& r : results) out.push_back(read_tensor(r));
    return out;
}

// check(results), or check(name, results), for each kernel of the backend that takes this node;
// returns their names.
template <class Check>
std::vector<std::string> for_each_kernel(const Op& op, const std::vector<HostTensor>& in,
                                         Check&& check) {
    Types operands;
    for (const HostTensor& t : in) operands.push_back(t.type);
    const Types results = rules_of(op).type(op, Operands(op_name(op), operands));
    const NodeView node{op, operands, results, "test"};
    std::vector<std::string> names;
    for (const Kernel& kernel : backend().kernels().kernels(op)) {
        if (kernel.reject(node)) continue;
        SCOPED_TRACE(kernel.name);
        names.emplace_back(kernel.name);
        if constexpr (std::is_invocable_v<Check, std::string_view, std::vector<HostTensor>>) {
            check(kernel.name, run_kernel(kernel, node, in));
        } else {
            check(run_kernel(kernel, node, in));
        }
    }
    return names;
}

}  // namespace octavo::test
