// Which steps of which plans stand behind the marks that a GPU leaves on its way
// (backends/cuda/breadcrumbs.h), and what is said when it stops between two of them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace octavo::cuda {

// Steps of a plan that a GPU is at when it has left one mark and not the next.
struct Stretch {
    std::string plan;                // empty: no plan has run
    std::vector<std::string> steps;  // none: all of the plan's are done
};

class TrailMap {
  public:
    // A mark follows every `spacing` steps, and the last. Returns the mark of the beginning; the
    // one after step i is i + 1 higher.
    std::uint32_t add(std::string plan, std::vector<std::string> steps, std::size_t spacing);
    void remove(std::uint32_t first);

    Stretch after(std::uint32_t mark) const;

  private:
    struct Trail {
        std::string plan;
        std::vector<std::string> steps;
        std::size_t spacing;
    };
    std::map<std::uint32_t, Trail> trails_;  // by the mark of the beginning
    std::uint32_t next_ = 1;                 // 0: nothing was marked
};

// Whether a mark follows this one of `count` steps. Where its beginning tells them all, a plan has
// no others.
constexpr bool is_marked(std::size_t step, std::size_t count, std::size_t spacing) {
    return count > spacing && ((step + 1) % spacing == 0 || step + 1 == count);
}

// `what` went wrong, in CUDA's words: first line and remedy of an Error.
std::string fault_text(std::string_view what, const Stretch&);

}  // namespace octavo::cuda
