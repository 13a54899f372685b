#include "engine/weight_writer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/convert.h"
#include "base/parallel.h"
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

// Copies of working weights of one form are cast by one plan.
class Caster {
  public:
    Caster(Backend& backend, const Recipe& recipe, std::span<const WorkingWeight> working)
        : backend_(backend), program_(backend) {
        for (const WorkingWeight& w : working) {
            const std::string form = form_of(w);
            if (!is_plain(w) && !program_.has(form)) program_.add(form, graph(recipe, w, form));
        }
        program_.allocate(backend.available_bytes());
        initialise_scales(program_.state());
    }

    // A rounding, which needs no device.
    static bool is_plain(const WorkingWeight& w) {
        return w.type.scaling == kUnscaled && !w.exponent;
    }

    void cast(const WorkingWeight& w, const std::byte* master, State& to) {
        const std::string form = form_of(w);
        program_.write_input(form, "master", master);
        program_.run(form);
        backend_.copy(to.tensor(w.state).as<std::byte>(),
                      program_.state().tensor(form).as<std::byte>(), total_bytes(w.type));
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

void write_weights(Backend& backend, const Recipe& recipe, std::span<const WorkingWeight> working,
                   State& state, const WeightSource& source) {
    Caster caster(backend, recipe, working);
    std::vector<WeightTarget> targets = master_weights(state);
    for (const WorkingWeight& w : working) {
        const bool plain = Caster::is_plain(w);
        add(targets, {w.weight, w.type.shape, plain ? w.type.dtype : Dtype::f32,
                      [&, w, plain](std::span<const std::byte> values) {
                          plain ? state.write(w.state, values.data())
                                : caster.cast(w, values.data(), state);
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
