// Everything that outlives one run of a plan, as named tensors. A checkpoint is State written out.
//
// A name is `role/parameter`, or just the parameter for the master weights:
//
//     layers.0.mlp.up_proj.weight            master weight, f32
//     work.e4m3/layers.0.mlp.up_proj.weight  working copy in the recipe's format
//     grad/...                               gradient; lives within a step and is not saved
//     grad.scale/...                         its factor, with propagated scales; likewise
//     adam.m/...  adam.v/...                 moments; adam.sqrt_v/... the second one's root
//     scale.history/...  scale.counter/...  scale.value/...     delayed scales
//     smooth.factor/...  smooth.seen/...     factors of channels; the latter are not saved
//     scale.guess/...                        current scales of the time before, not saved either
//     smooth.window/...  smooth.before/...   the largest of them, for export
//     step/loss                              sum over a step's micro-batches; not saved either
//     kv/...                                 key-value cache; nor is this
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/backend.h"
#include "runtime/tensor.h"

namespace octavo {

std::string_view state_role(std::string_view name);  // "weight" when there is no prefix
bool is_saved(std::string_view name);

class State;
// Fresh scales, delayed ones and those of tensors: 1, with empty histories (State is zero elsewhere
// when it is allocated). Master weights get theirs with their values.
void initialise_scales(State&);
// `values` rounded to nearest in the tensor's format; one that takes a scale gets it from their
// amax, a power of two for master weights, else exact, unless its exponent is known; one that is
// expanded gets its expansions from them. Error for other scales.
void write_values(State&, std::string_view name, std::span<const float> values);
// The same under 2^exponent, of a tensor that takes a scale.
void write_values_under(State&, std::string_view name, std::span<const float> values, int exponent);
// And back.
std::vector<float> read_values(const State&, std::string_view name);
// For one tensor after another, in memory that is kept: pages of a fresh one cost more than what is
// read.
class ValueReader {
  public:
    explicit ValueReader(const State& state) : state_(state) {}
    std::span<const float> read(std::string_view name);  // until the next one

  private:
    const State& state_;
    std::vector<std::byte> parts_;
    std::vector<float> values_;
};
// The values of such a tensor, whose parts lie on the host.
std::vector<float> values_of(const Type&, const void* codes, const float* scales);

class State {
  public:
    struct Entry {
        std::string name;
        Type type;
        std::int64_t offset = 0;
        TensorRef tensor;
        std::optional<int> exponent = {};  // its one scale is 2^exponent, whatever its amax
    };

    // Adds a tensor, or checks that it was added with the same type. Before `allocate`.
    void declare(const std::string& name, const Type& type, std::optional<int> exponent = {});
    std::int64_t bytes() const { return bytes_; }
    // Bytes by role, in order of first appearance.
    std::vector<std::pair<std::string, std::int64_t>> bytes_by_role() const;

    void allocate(Backend& backend);  // zero-filled
    // Or in memory of the caller's: bytes(), zero-filled, and there as long as this is.
    void place(Backend& backend, std::byte* memory);
    bool has_memory() const { return backend_ != nullptr; }
    bool contains(std::string_view name) const { return index_.find(name) != index_.end(); }
    const Entry& at(std::string_view name) const;
    const TensorRef& tensor(std::string_view name) const { return at(name).tensor; }
    std::span<const Entry> entries() const { return entries_; }

    // Values between the host and a tensor's codes; `bytes` is data_bytes(type).
    void write(std::string_view name, const void* host);
    void read(std::string_view name, void* host) const;
    void write_scales(std::string_view name, const void* host);  // scale_bytes(type)
    // The same for all parts (codes, scales, groups), as total_bytes(type) bytes of layout
    // tensor_at.
    void write_all_parts(std::string_view name, const std::byte* host);
    void read_all_parts(std::string_view name, std::byte* host) const;

  private:
    std::vector<Entry> entries_;
    std::map<std::string, std::size_t, std::less<>> index_;
    std::int64_t bytes_ = 0;
    Backend* backend_ = nullptr;
    Buffer memory_;
};

}  // namespace octavo
