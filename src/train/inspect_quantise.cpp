#include "train/inspect_quantise.h"

#include <algorithm>
#include <cmath>

#include "base/cast_stats.h"
#include "base/convert.h"
#include "io/safetensors_header.h"
#include "recipes/scales.h"
#include "runtime/program.h"

namespace octavo {
namespace {

std::int64_t blocks(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

// The parts of a quantised tensor on the host, scales and exponents without padding.
struct Parts {
    Type type;                                            // as it was quantised: at least a matrix
    std::vector<std::byte> stored_scales, stored_groups;  // as the type lays them out
    Shape scale_shape, local_shape;
    std::vector<std::byte> codes;
    std::vector<float> scales, values;
    std::vector<std::uint8_t> locals;
    CastStats stats;
};

std::vector<std::byte> read_bytes(Backend& backend, const void* from, std::int64_t bytes) {
    std::vector<std::byte> to(static_cast<std::size_t>(bytes));
    backend.copy_out(to.data(), static_cast<const std::byte*>(from), bytes);
    return to;
}

// What `at` says of the first element of every tile of rows x columns elements.
template <class T, class At>
std::vector<T> gather(const Type& t, std::int64_t rows, std::int64_t columns, At&& at) {
    std::vector<T> found;
    for (std::int64_t i = 0; i < std::max<std::int64_t>(t.shape.rows(), 1); i += rows) {
        for (std::int64_t j = 0; j < std::max<std::int64_t>(t.shape.last(), 1); j += columns) {
            found.push_back(at(i, j));
        }
    }
    return found;
}

float stored_scale(const Parts& p, const ScaleLayout& layout, std::int64_t row,
                   std::int64_t column) {
    const auto* scales = reinterpret_cast<const float*>(p.stored_scales.data());
    return scales[layout.scale_at(row, column)];
}

std::uint8_t stored_group(const Parts& p, const ScaleLayout& layout, std::int64_t row,
                          std::int64_t column) {
    return std::to_integer<std::uint8_t>(
        p.stored_groups[static_cast<std::size_t>(layout.group_at(row, column))]);
}

void unpack_scales(Parts& p) {
    const ScaleLayout layout = scale_layout(p.type);
    const std::int64_t rows = p.type.shape.rows(), columns = p.type.shape.last();
    std::int64_t tile_rows = 1, tile_columns = std::max<std::int64_t>(columns, 1);
    p.scale_shape = {rows};
    switch (p.type.scaling.granularity) {
        case Granularity::tensor:
            tile_rows = std::max<std::int64_t>(rows, 1);
            p.scale_shape = {1};
            break;
        case Granularity::block_1x128:
            tile_columns = kScaleBlock;
            p.scale_shape = {rows, blocks(columns, kScaleBlock)};
            break;
        case Granularity::block_128x128:
            tile_rows = tile_columns = kScaleBlock;
            p.scale_shape = {blocks(rows, kScaleBlock), blocks(columns, kScaleBlock)};
            break;
        default:
            break;
    }
    p.scales = gather<float>(p.type, tile_rows, tile_columns,
                             [&](auto i, auto j) { return stored_scale(p, layout, i, j); });
    if (p.stored_groups.empty()) return;
    const std::int64_t group = p.type.scaling.group;
    p.local_shape = {rows, blocks(columns, group)};
    p.locals = gather<std::uint8_t>(p.type, 1, group,
                                    [&](auto i, auto j) { return stored_group(p, layout, i, j); });
}

Parts quantise(Backend& backend, const Format& format, const TensorInfo& tensor) {
    Graph g;
    Builder b(g);
    const std::int64_t n = tensor.shape.elements();
    const bool vector = tensor.shape.rank() < 2;
    const Shape shape = vector ? Shape{1, n} : tensor.shape;
    const Value x = b.input("x", {tensor.dtype, shape});
    const Value y = emit_quantise(b, format, x, tensor.name, /*window=*/1).value;
    b.output("codes", y);
    b.output("stats", b.one(MeasureCast{}, {x, y}));
    b.output("values", b.one(Dequantise{Dtype::f32}, {y}));
    Program program(backend);
    program.add("quantise", g);
    program.allocate(backend.available_bytes());
    Plan& plan = program.plan("quantise");
    const TensorRef in = plan.input("x");
    backend.copy_in(in.as<std::byte>(), tensor.bytes.data(), std::ssize(tensor.bytes));
    program.run("quantise");

    const TensorRef codes = plan.output("codes"), values = plan.output("values");
    Parts p;
    p.type = codes.type;
    p.codes = read_bytes(backend, codes.data, data_bytes(codes.type));
    p.values.resize(static_cast<std::size_t>(n));
    backend.copy_out(reinterpret_cast<std::byte*>(p.values.data()), values.as<std::byte>(), n * 4);
    program.read_output("quantise", "stats", &p.stats);
    p.stored_scales = read_bytes(backend, codes.scale, scale_bytes(codes.type));
    if (codes.groups) {
        p.stored_groups = read_bytes(backend, codes.groups, group_bytes(codes.type));
    }
    unpack_scales(p);
    return p;
}

QuantiseError error_of(const TensorInfo& tensor, const Parts& p) {
    const auto n = static_cast<std::size_t>(tensor.shape.elements());
    std::vector<float> x(n);
    convert(tensor.bytes, tensor.dtype, std::as_writable_bytes(std::span(x)), Dtype::f32);
    QuantiseError e{.tensor = tensor.name,
                    .snr_db = -20 * std::log10(p.stats.error),
                    .saturated = p.stats.saturated,
                    .flushed = p.stats.flushed};
    for (std::size_t i = 0; i < n; ++i) {
        if (x[i] == 0 || p.values[i] == 0) continue;
        const double want = x[i], difference = want - p.values[i];
        e.worst_relative = std::max(e.worst_relative, std::abs(difference / want));
    }
    return e;
}

bool takes(const TensorInfo& t) { return is_float(t.dtype) && !is_fp8(t.dtype); }

std::vector<TensorInfo> chosen(const SafetensorsFile& file, const QuantiseRequest& request) {
    std::vector<TensorInfo> found;
    if (!request.tensor.empty()) {
        found.push_back(file.at(request.tensor));
        check(takes(found[0]), "{}: '{}' is {}, expected f64, f32, bf16 or f16", file.name(),
              request.tensor, name(found[0].dtype));
        check(found[0].shape.elements() > 0, "{}: '{}' has no elements to quantise", file.name(),
              request.tensor);
        return found;
    }
    for (const TensorEntry& entry : file.entries()) {
        const StoredDtype* stored = stored_dtype(entry.dtype);
        if (!stored || !stored->dtype || entry.dims.size() > Shape::kMaxRank) continue;
        const TensorInfo t = file.at(entry.name);
        if (takes(t) && t.shape.elements() > 0) found.push_back(t);
    }
    check(!found.empty(), "{}: no tensor of f64, f32, bf16 or f16 elements to quantise",
          file.name());
    return found;
}

}  // namespace

std::vector<QuantiseError> inspect_quantise(const QuantiseRequest& request, Backend& backend) {
    const SafetensorsFile file(request.in);
    std::vector<Parts> parts;
    std::vector<QuantiseError> errors;
    std::vector<TensorInfo> written;
    const std::vector<TensorInfo> tensors = chosen(file, request);
    parts.reserve(tensors.size());  // `written` points into them
    for (const TensorInfo& t : tensors) {
        const Parts& p = parts.emplace_back(quantise(backend, request.format, t));
        errors.push_back(error_of(t, p));
        written.push_back({t.name + ".codes", Dtype::u8, t.shape, p.codes});
        written.push_back(
            {t.name + ".scale", Dtype::f32, p.scale_shape, std::as_bytes(std::span(p.scales))});
        if (!p.locals.empty()) {
            written.push_back({t.name + ".local", Dtype::e8m0, p.local_shape,
                               std::as_bytes(std::span(p.locals))});
        }
        written.push_back(
            {t.name + ".dequant", Dtype::f32, t.shape, std::as_bytes(std::span(p.values))});
    }
    write_safetensors(request.out, written,
                      {{"quantised", fmt::format("{} x {}", name(request.format.dtype),
                                                 to_string(scaling_of(request.format)))}});
    return errors;
}

std::string to_text(const std::vector<QuantiseError>& errors) {
    std::size_t width = 6;
    for (const QuantiseError& e : errors) width = std::max(width, e.tensor.size());
    std::string text = fmt::format("{:<{}}  {:>8}  {:>14}  {:>11}  {:>9}\n", "tensor", width,
                                   "SNR, dB", "worst relative", "saturated", "flushed");
    for (const QuantiseError& e : errors) {
        text += fmt::format("{:<{}}  {:>8.2f}  {:>14.4f}  {:>9.4f} %  {:>7.4f} %\n", e.tensor,
                            width, e.snr_db, e.worst_relative, 100 * e.saturated, 100 * e.flushed);
    }
    return text;
}

}  // namespace octavo
