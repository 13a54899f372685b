#include "engine/weight_writer.h"

#include <algorithm>

#include "base/convert.h"
#include "passes/join_products.h"
#include "passes/simplify.h"

namespace octavo {

// Where a parameter goes: some rows of a working weight.
struct WeightWriter::Place {
    WorkingWeight weight;  // with the type of these rows alone
    std::string state;     // that they are part of
    std::int64_t first_row = 0;

    // A rounding, which needs no device.
    bool is_plain() const { return weight.type.scaling == kUnscaled && !weight.exponent; }
};

namespace {

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

}  // namespace

// Copies of one form are cast by one plan.
class WeightWriter::Caster {
  public:
    Caster(Backend& backend, const Recipe& recipe, std::span<const Place> places)
        : backend_(backend), program_(backend) {
        for (const Place& place : places) {
            const std::string form = form_of(place.weight);
            if (!place.is_plain() && !program_.has(form)) {
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

namespace {

// A parameter that is wanted in two formats comes in f32 for both.
void add(std::vector<WeightTarget>& targets, WeightTarget target) {
    const auto known = std::ranges::find(targets, target.name, &WeightTarget::name);
    if (known == targets.end()) return targets.push_back(std::move(target));
    const auto from_f32 = [](const WeightTarget& t, std::span<const std::byte> values) {
        std::vector<std::byte> converted(values.size() / sizeof(float) * size_of(t.dtype));
        parallel_convert(values, Dtype::f32, converted, t.dtype);
        t.write(converted);
    };
    known->write = [from_f32, first = *known, second = target](auto values) {
        from_f32(first, values);
        from_f32(second, values);
    };
    known->dtype = Dtype::f32;
}

}  // namespace

WeightWriter::WeightWriter(Backend& backend, const Recipe& recipe,
                           std::span<const Parameter> parameters,
                           std::span<const WorkingWeight> working)
    : backend_(backend) {
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
            places_.push_back(std::move(place));
        }
    }
    caster_ = std::make_unique<Caster>(backend, recipe, places_);
}

WeightWriter::~WeightWriter() = default;

void WeightWriter::write(State& state, const WeightSource& source) {
    std::vector<WeightTarget> targets = master_weights(state);
    for (const Place& place : places_) {
        const auto cast = [&](std::span<const std::byte> values) {
            caster_->cast(place, values.data(), state);
        };
        const auto copy = [&](std::span<const std::byte> values) {
            const std::int64_t row_bytes = std::ssize(values) / place.weight.type.shape[0];
            backend_.copy_in(
                state.tensor(place.state).as<std::byte>() + place.first_row * row_bytes,
                values.data(), std::ssize(values));
        };
        WeightTarget target{place.weight.weight, place.weight.type.shape, Dtype::f32, cast};
        if (place.is_plain()) target.dtype = place.weight.type.dtype, target.write = copy;
        add(targets, std::move(target));
    }
    std::vector<bool> written(targets.size());
    for (std::size_t i = 0; i < targets.size(); ++i) {
        targets[i].write = [&written, i, about = targets[i],
                            write = std::move(targets[i].write)](auto values) {
            const auto bytes =
                static_cast<std::size_t>(about.shape.elements()) * size_of(about.dtype);
            check(values.size() == bytes, "'{}': expected {} bytes for {}, got {}", about.name,
                  bytes, to_string(Type{about.dtype, about.shape}), values.size());
            check_finite(about, values);
            write(values);
            written[i] = true;
        };
    }
    source(targets);
    backend_.synchronize();
    for (std::size_t i = 0; i < targets.size(); ++i) {
        check(written[i], "'{}' was given no values", targets[i].name);
    }
}

}  // namespace octavo
