#include "engine/weight_writer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/convert.h"
#include "base/parallel.h"
#include "passes/join_products.h"
#include "passes/simplify.h"

namespace octavo {
namespace {

void check_finite(const WeightTarget& target, std::span<const std::byte> values) {
    const auto size = static_cast<std::int64_t>(size_of(target.dtype));
    const std::int64_t n = std::ssize(values) / size;
    constexpr std::int64_t kGrain = 1 << 20;
    parallel_for((n + kGrain - 1) / kGrain, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t at = begin * kGrain; at < std::min(n, end * kGrain); at += kGrain) {
            const std::byte* from = values.data() + at * size;
            const std::int64_t count = std::min(kGrain, n - at);
            if (std::isfinite(amax(from, target.dtype, count))) continue;
            std::int64_t i = 0;
            while (std::isfinite(amax(from + i * size, target.dtype, 1))) ++i;
            fail(
                "'{}': element {} is {}\n  The weights are damaged, or training has diverged; "
                "nothing can be generated with them.",
                target.name, at + i,
                std::isnan(amax(from + i * size, target.dtype, 1)) ? "NaN" : "infinite");
        }
    });
}

// Where a parameter goes: some rows of a working weight.
struct Place {
    WorkingWeight weight;  // with the type of these rows alone
    std::string state;     // that they are part of
    std::int64_t first_row = 0;
};

// A rounding, which needs no device.
bool is_plain(const Place& p) { return p.weight.type.scaling == kUnscaled && !p.weight.exponent; }

std::vector<Place> places_of(std::span<const Parameter> parameters,
                             std::span<const WorkingWeight> working) {
    std::vector<Place> places;
    for (const WorkingWeight& w : working) {
        const std::vector<std::string> parts = joined_parts(w.weight);
        std::int64_t row = 0;
        for (const std::string& part : parts) {
            Place place{w, w.state, row};
            place.weight.weight = part;
            if (parts.size() > 1) {
                const auto p = std::ranges::find(parameters, part, &Parameter::name);
                check(p != parameters.end(), "'{}': the model has no parameter '{}'", w.state,
                      part);
                place.weight.type.shape = p->shape;
                row += p->shape[0];
            }
            places.push_back(std::move(place));
        }
    }
    return places;
}

// Puts the parts of `from` at the rows of `to` that begin with `row`: codes, and scales of whole
// blocks. Everything else is copied whole.
void copy_rows(Backend& backend, const TensorRef& from, const TensorRef& to, std::int64_t row) {
    if (from.type == to.type) {
        return backend.copy(to.as<std::byte>(), from.as<std::byte>(), total_bytes(to.type));
    }
    const std::int64_t row_bytes =
        to.type.shape[1] * static_cast<std::int64_t>(size_of(to.type.dtype));
    backend.copy(to.as<std::byte>() + row * row_bytes, from.as<std::byte>(), data_bytes(from.type));
    if (!from.scale) return;
    const std::int64_t block_row = scale_layout(to.type).scale_at(row, 0);
    backend.copy(reinterpret_cast<std::byte*>(to.scales() + block_row),
                 reinterpret_cast<const std::byte*>(from.scales()), scale_bytes(from.type));
}

// Copies of one form are cast by one plan.
class Caster {
  public:
    Caster(Backend& backend, const Recipe& recipe, std::span<const Place> places)
        : backend_(backend), program_(backend) {
        for (const Place& place : places) {
            const std::string form = form_of(place.weight);
            if (!is_plain(place) && !program_.has(form)) {
                program_.add(form, graph(recipe, place.weight, form));
            }
        }
        program_.allocate(backend.available_bytes());
        initialise_scales(program_.state());
    }

    void cast(const Place& place, const std::byte* master, State& to) {
        const std::string form = form_of(place.weight);
        program_.write_input(form, "master", master);
        program_.run(form);
        copy_rows(backend_, program_.state().tensor(form), to.tensor(place.state), place.first_row);
    }

  private:
    static std::string form_of(const WorkingWeight& w) {
        return fmt::format("work.{}/{} 2^{}", name(w.type.dtype), to_string(w.type),
                           w.exponent.value_or(0));
    }

    static Graph graph(const Recipe& recipe, WorkingWeight w, const std::string& form) {
        Graph g;
        Builder b(g);
        b.set_phase(Phase::update);
        w.state = form;
        w.weight = form.substr(form.find('/') + 1);
        const Value master = b.input("master", {Dtype::f32, w.type.shape});
        refresh_working_weight(b, recipe, w, master, {});
        return merge_equal(g);
    }

    Backend& backend_;
    Program program_;
};

void write_plain(Backend& backend, const Place& place, std::span<const std::byte> values,
                 State& to) {
    const std::int64_t row_bytes = std::ssize(values) / place.weight.type.shape[0];
    backend.copy_in(to.tensor(place.state).as<std::byte>() + place.first_row * row_bytes,
                    values.data(), std::ssize(values));
}

// A parameter that is wanted in two formats comes in f32 for both.
void add(std::vector<WeightTarget>& targets, WeightTarget target) {
    const auto known = std::ranges::find(targets, target.name, &WeightTarget::name);
    if (known == targets.end()) return targets.push_back(std::move(target));
    const auto from_f32 = [](const WeightTarget& t, std::span<const std::byte> values) {
        std::vector<std::byte> converted(values.size() / sizeof(float) * size_of(t.dtype));
        convert(values, Dtype::f32, converted, t.dtype);
        t.write(converted);
    };
    known->write = [from_f32, first = *known, second = target](auto values) {
        from_f32(first, values);
        from_f32(second, values);
    };
    known->dtype = Dtype::f32;
}

}  // namespace

void write_weights(Backend& backend, const Recipe& recipe, std::span<const Parameter> parameters,
                   std::span<const WorkingWeight> working, State& state,
                   const WeightSource& source) {
    const std::vector<Place> places = places_of(parameters, working);
    Caster caster(backend, recipe, places);
    std::vector<WeightTarget> targets = master_weights(state);
    for (const Place& place : places) {
        const bool plain = is_plain(place);
        add(targets, {place.weight.weight, place.weight.type.shape,
                      plain ? place.weight.type.dtype : Dtype::f32,
                      [&, plain](std::span<const std::byte> values) {
                          plain ? write_plain(backend, place, values, state)
                                : caster.cast(place, values.data(), state);
                      }});
    }
    for (WeightTarget& target : targets) {
        target.write = [about = target, write = std::move(target.write)](auto values) {
            check_finite(about, values);
            write(values);
        };
    }
    source(targets);
    backend.synchronize();
}

}  // namespace octavo
