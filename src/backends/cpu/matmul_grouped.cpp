// A product for each expert, by the kernels for one product.
//
// How many rows an expert has is known when the kernel runs, and oneDNN takes long to prepare a
// product of a new shape. So rows are rounded up, to at most eight sizes for every power of two,
// and what lies behind them is zero.
#include <bit>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "backends/cpu/dequantise.h"
#include "backends/cpu/matmul.h"
#include "backends/matmul_grouped.h"
#include "backends/stack.h"
#include "graph/graph.h"

namespace octavo::cpu {
namespace {

std::int64_t rounded_rows(std::int64_t rows) {
    constexpr std::int64_t kFew = 16;
    if (rows <= kFew) return rows;
    const auto step =
        static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(rows)) / 8);
    return (rows + step - 1) / step * step;
}

// Along K, sums go over whole tiles: whatever experts are aligned to, in the same order.
std::int64_t rounded_terms(std::int64_t rows) {
    constexpr std::int64_t kTile = 128;
    return rounded_rows((rows + kTile - 1) / kTile * kTile);
}

// Products of one expert by their shapes, prepared when they are first wanted, and their scratch,
// which is that of the largest.
class ExpertProducts {
  public:
    explicit ExpertProducts(Products kind) : kernels_(kernel_registry(kind)) {}

    void run(const Matmul& op, std::span<const TensorRef> in, const TensorRef& out) {
        const std::lock_guard lock(mutex_);
        const Prepared& product = prepared(op, in[0].type, in[1].type);
        if (product.scratch_bytes > bytes_) {
            bytes_ = product.scratch_bytes;
            constexpr std::int64_t kAlignment = 256;
            const std::int64_t whole = (bytes_ + kAlignment - 1) / kAlignment * kAlignment;
            scratch_.reset(static_cast<std::byte*>(
                std::aligned_alloc(kAlignment, static_cast<std::size_t>(whole))));
            check(scratch_ != nullptr, "cannot allocate {} bytes of memory", whole);
        }
        product.run({in, {&out, 1}, scratch_.get()});
    }

  private:
    struct Free {
        void operator()(std::byte* p) const { std::free(p); }
    };

    const Prepared& prepared(const Matmul& op, const Type& a, const Type& b) {
        const std::string key =
            fmt::format("{}{} {} {}", name(op.out), attributes(Op(op)), to_string(a), to_string(b));
        const auto found = prepared_.find(key);
        if (found != prepared_.end()) return found->second;
        return prepared_.emplace(key, prepare_matmul(kernels_, op, a, b)).first->second;
    }

    const KernelRegistry& kernels_;
    std::mutex mutex_;
    std::map<std::string, Prepared> prepared_;
    std::unique_ptr<std::byte, Free> scratch_;
    std::int64_t bytes_ = 0;
};

ExpertProducts& products(Products kind) {
    static ExpertProducts fast(Products::fast), by_rows(Products::by_rows);
    return kind == Products::fast ? fast : by_rows;
}

std::int64_t bytes_of(const Type& t, std::int64_t elements) {
    return elements * static_cast<std::int64_t>(size_of(t.dtype));
}

// Rows [first, first + rows) of a matrix: where they are, or with as many as `padded`, in `buffer`.
TensorRef take_rows(const TensorRef& t, std::int64_t first, std::int64_t rows, std::int64_t padded,
                    std::byte* buffer) {
    const std::int64_t row = bytes_of(t.type, t.type.shape.last());
    TensorRef taken = t;
    taken.type.shape = {padded, t.type.shape.last()};
    std::byte* from = t.as<std::byte>() + first * row;
    taken.data = padded == rows ? from : buffer;
    if (padded != rows) {
        std::copy_n(from, rows * row, buffer);
        std::fill_n(buffer + rows * row, (padded - rows) * row, std::byte{0});
    }
    return taken;
}

// The same of columns, always in `buffer`.
TensorRef take_columns(const TensorRef& t, std::int64_t first, std::int64_t columns,
                       std::int64_t padded, std::byte* buffer) {
    const std::int64_t row = bytes_of(t.type, t.type.shape.last());
    const std::int64_t width = bytes_of(t.type, columns), pitch = bytes_of(t.type, padded);
    const std::byte* from = t.as<std::byte>() + bytes_of(t.type, first);
    for (std::int64_t i = 0; i < t.type.shape[0]; ++i) {
        std::copy_n(from + i * row, width, buffer + i * pitch);
        std::fill_n(buffer + i * pitch + width, pitch - width, std::byte{0});
    }
    TensorRef taken = t;
    taken.type.shape = {t.type.shape[0], padded};
    taken.data = buffer;
    return taken;
}

class Grouped {
  public:
    Grouped(const NodeView& node, Products kind) : op_(std::get<Matmul>(node.op)), kind_(kind) {
        one_ = op_;
        one_.groups = 0;
        one_.group_k = false;
        one_.alignment = 1;
        for (std::size_t i = 0; i < 2; ++i) {
            const Type& t = node.in[i];
            if (!has_fine_scales(t)) continue;
            wide_[i] = Type{Dtype::f32, t.shape};
            wide_at_[i] = scratch_.reserve(total_bytes(*wide_[i]));
        }
        const auto room = [&](const Type& t, std::int64_t rows, std::int64_t width) {
            const std::int64_t most = op_.group_k ? rounded_terms(rows) : rounded_rows(rows);
            return scratch_.reserve(bytes_of(t, most * width));
        };
        const Type &a = node.in[0], &b = node.in[1];
        const std::int64_t rows = a.shape[op_.trans_a || !op_.group_k ? 0 : 1];
        at_[0] =
            room(wide_[0].value_or(a), rows, a.shape.elements() / std::max<std::int64_t>(rows, 1));
        if (op_.group_k) {
            at_[1] = room(wide_[1].value_or(b), rows,
                          b.shape.elements() / std::max<std::int64_t>(rows, 1));
        } else {
            c_at_ = room(node.out[0], rows, node.out[0].shape.last());
        }
    }

    std::int64_t scratch_bytes() const { return scratch_.bytes(); }

    void operator()(const KernelCall& call) const {
        std::array<TensorRef, 2> in{call.in[0], call.in[1]};
        for (std::size_t i = 0; i < 2; ++i) {
            if (!wide_[i]) continue;
            in[i] = tensor_at(*wide_[i], call.scratch + wide_at_[i]);
            dequantise(call.in[i], in[i]);
        }
        const std::int32_t* offsets = call.in[2].as<std::int32_t>();
        for (std::int64_t e = 0; e < op_.groups; ++e) {
            const std::int64_t first = offsets[e], rows = offsets[e + 1] - first;
            if (op_.group_k) {
                along_k(call, in, e, first, rows);
            } else if (rows > 0) {
                along_rows(call, in, e, first, rows);
            }
        }
        if (op_.group_k) return;
        const std::int64_t end = offsets[op_.groups];
        clear(call, end * call.out[0].type.shape.last(), call.out[0].type.shape.elements());
    }

  private:
    // Elements [first, last) of the result without a product.
    void clear(const KernelCall& call, std::int64_t first, std::int64_t last) const {
        const TensorRef& c = call.out[0];
        std::byte* to = c.as<std::byte>() + bytes_of(c.type, first);
        const std::int64_t bytes = bytes_of(c.type, last - first);
        if (!op_.accumulate) {
            std::fill_n(to, bytes, std::byte{0});
        } else if (call.in[3].data != c.data) {
            std::copy_n(call.in[3].as<std::byte>() + bytes_of(c.type, first), bytes, to);
        }
    }

    void along_rows(const KernelCall& call, const std::array<TensorRef, 2>& in, std::int64_t e,
                    std::int64_t first, std::int64_t rows) const {
        const std::int64_t padded = rounded_rows(rows);
        const TensorRef& out = call.out[0];
        std::byte* const buffer = call.scratch + c_at_;
        std::vector<TensorRef> operands{
            take_rows(in[0], first, rows, padded, call.scratch + at_[0]), matrix_of(in[1], e)};
        TensorRef c = out;
        c.type.shape = {padded, out.type.shape.last()};
        const std::int64_t row = bytes_of(out.type, out.type.shape.last());
        std::byte* const to = out.as<std::byte>() + first * row;
        c.data = padded == rows ? to : buffer;
        if (op_.accumulate) operands.push_back(take_rows(call.in[3], first, rows, padded, buffer));
        products(kind_).run(one_, operands, c);
        if (padded != rows) std::copy_n(buffer, rows * row, to);
    }

    void along_k(const KernelCall& call, const std::array<TensorRef, 2>& in, std::int64_t e,
                 std::int64_t first, std::int64_t rows) const {
        const TensorRef c = matrix_of(call.out[0], e);
        const std::int64_t n = c.type.shape.elements();
        if (rows == 0) return clear(call, e * n, (e + 1) * n);
        const std::int64_t padded = rounded_terms(rows);
        const auto take = [&](std::size_t i, bool by_rows) {
            std::byte* const buffer = call.scratch + at_[i];
            return by_rows ? take_rows(in[i], first, rows, padded, buffer)
                           : take_columns(in[i], first, rows, padded, buffer);
        };
        std::vector<TensorRef> operands{take(0, op_.trans_a), take(1, !op_.trans_b)};
        if (op_.accumulate) operands.push_back(matrix_of(call.in[3], e));
        products(kind_).run(one_, operands, c);
    }

    Matmul op_, one_;  // of all groups, and of one
    Products kind_;
    std::array<std::optional<Type>, 2> wide_;
    std::array<std::int64_t, 2> wide_at_{}, at_{};
    std::int64_t c_at_ = 0;
    ScratchCounter scratch_;
};

}  // namespace

Prepared prepare_matmul_grouped(const NodeView& node, Products kind) {
    const Grouped grouped(node, kind);
    return {grouped, grouped.scratch_bytes()};
}

}  // namespace octavo::cpu
