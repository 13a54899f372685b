// An independent reading of a memory plan: follows who owns each byte of the arena and of State
// while the graph runs, and complains when a value is read after somebody else took its place.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "graph/rules.h"
#include "runtime/memory_plan.h"

namespace octavo::test {

class PlanChecker {
  public:
    PlanChecker(const Graph& g, const MemoryPlan& plan) : g_(g), plan_(plan) {}

    // The first complaint, or "".
    std::string run() {
        for (std::int32_t i = 0; i < std::ssize(g_.nodes()) && error_.empty(); ++i) visit(i);
        for (const Output& o : g_.outputs()) expect_owned(o.value, "output " + o.name);
        for (const auto& [name, v] : stored_) {
            if (owners_["state " + name][0] != base(v)) {
                complain("at the end state " + name + " is not " + g_.value_name(v));
            }
        }
        return error_;
    }

  private:
    static constexpr std::int64_t kUnit = 64;

    struct Range {
        std::string region;
        std::int64_t first, last;  // units, half open
    };

    // Whose bytes `v` shows: views are their operand, and all Loads of a tensor are the first.
    Value base(Value v) const {
        while (rules_of(g_.node(g_.producer(v)).op).view) v = g_.node(g_.producer(v)).in[0];
        const auto* load = std::get_if<Load>(&g_.node(g_.producer(v)).op);
        return load && first_load_.contains(load->name) ? first_load_.at(load->name) : v;
    }

    Range range(Value v) const {
        const Placement& p = plan_.placements[v.id];
        const std::int64_t units = (total_bytes(g_.type(v)) + kUnit - 1) / kUnit;
        switch (p.storage) {
            case Storage::arena:
                return {"arena", p.offset / kUnit, p.offset / kUnit + units};
            case Storage::input:
                return {"input", p.offset / kUnit, p.offset / kUnit + units};
            case Storage::state:
                break;
        }
        return {"state " + p.state, 0, 1};
    }

    void complain(const std::string& text) {
        if (error_.empty()) error_ = text;
    }

    void expect_owned(Value v, const std::string& reader) {
        const Range r = range(v);
        auto& owners = owners_[r.region];
        for (std::int64_t u = r.first; u < r.last; ++u) {
            if (u >= std::ssize(owners) || owners[u] != base(v)) {
                complain(reader + " reads " + g_.value_name(v) + " after it was overwritten");
                return;
            }
        }
    }

    void claim(Value v, const Range& r) {
        auto& owners = owners_[r.region];
        if (std::ssize(owners) < r.last) owners.resize(r.last);
        std::fill(owners.begin() + r.first, owners.begin() + r.last, base(v));
    }

    static bool meet(const Range& a, const Range& b) {
        return a.region == b.region && a.first < b.last && b.first < a.last;
    }

    bool in_place(const Node& n, std::size_t out, std::size_t in) const {
        for (const InPlace& p : rules_of(n.op).in_place) {
            if (p.out == static_cast<int>(out) && p.operand(n.in.size()) == in) return true;
        }
        return false;
    }

    void visit(std::int32_t i) {
        const Node& n = g_.node(i);
        const std::string reader = "node " + std::to_string(i) + " " + std::string(op_name(n.op));
        for (Value v : n.in) expect_owned(v, reader);
        if (const auto* store = std::get_if<Store>(&n.op)) {
            stored_[store->name] = n.in[0];
            if (plan_.store_copies[i]) {
                claim(n.in[0], {"state " + store->name, 0, 1});
            } else if (range(n.in[0]).region != "state " + store->name) {
                complain(reader + " neither copies nor was written through");
            }
            return;
        }
        if (rules_of(n.op).view) {
            if (plan_.placements[n.out[0].id].storage != plan_.placements[n.in[0].id].storage ||
                plan_.placements[n.out[0].id].offset != plan_.placements[n.in[0].id].offset) {
                complain(reader + " is a view elsewhere");
            }
            return;
        }
        if (const auto* load = std::get_if<Load>(&n.op)) {
            const bool first = first_load_.try_emplace(load->name, n.out[0]).second;
            // A Load after a write finds nothing of its own, which only matters if it is read.
            if (first && owners_["state " + load->name].empty()) claim(n.out[0], range(n.out[0]));
            return;
        }
        for (std::size_t j = 0; j < n.out.size(); ++j) {
            const Range r = range(n.out[j]);
            for (std::size_t k = 0; k < n.in.size(); ++k) {
                if (meet(r, range(n.in[k])) && !in_place(n, j, k)) {
                    complain(reader + " writes a result over operand " + std::to_string(k));
                }
            }
            for (std::size_t other = 0; other < j; ++other) {
                if (meet(r, range(n.out[other]))) complain(reader + " has results that overlap");
            }
            claim(n.out[j], r);
        }
    }

    const Graph& g_;
    const MemoryPlan& plan_;
    std::map<std::string, std::vector<Value>> owners_;  // by region: who wrote each unit last
    std::map<std::string, Value> stored_;
    std::map<std::string, Value> first_load_;
    std::string error_;
};

inline std::string complaint(const Graph& g, const MemoryPlan& plan) {
    return PlanChecker(g, plan).run();
}

}  // namespace octavo::test
