#include "backends/cpu/onednn.h"

#include <dnnl.hpp>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/error.h"

namespace octavo::cpu {
namespace {

const dnnl::engine& engine() {
    static const dnnl::engine e(dnnl::engine::kind::cpu, 0);
    return e;
}

dnnl::memory::data_type data_type(Dtype dtype) {
    return dtype == Dtype::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

// A dense (rows, columns) matrix, or the transpose of a dense (columns, rows) one.
dnnl::memory::desc matrix(std::int64_t rows, std::int64_t columns, bool transposed, Dtype dtype) {
    using Dims = dnnl::memory::dims;
    return {{rows, columns}, data_type(dtype), transposed ? Dims{1, rows} : Dims{columns, 1}};
}

dnnl::matmul::primitive_desc describe(const GemmDesc& d) {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (d.scaled) attributes.set_output_scales(0, {DNNL_RUNTIME_F32_VAL});
    if (d.accumulate) {
        dnnl::post_ops sum;
        sum.append_sum();
        attributes.set_post_ops(sum);
    }
    const dnnl::matmul::desc product(matrix(d.m, d.k, d.trans_a, d.in),
                                     matrix(d.k, d.n, d.trans_b, d.in),
                                     matrix(d.m, d.n, false, d.out));
    return {product, attributes, engine(), /*allow_empty=*/true};
}

std::string implementation(const dnnl::matmul::primitive_desc& pd) {
    if (!pd) return {};
    const std::string_view name = pd.impl_info_str();
    return name.starts_with("ref") ? std::string() : std::string(name);
}

}  // namespace

struct Gemm::State {
    State(dnnl::matmul::primitive_desc pd, bool scaled)
        : chosen(std::move(pd)),
          stream(engine()),
          a(chosen.src_desc(), engine(), nullptr),
          b(chosen.weights_desc(), engine(), nullptr),
          c(chosen.dst_desc(), engine(), nullptr),
          scratchpad(chosen.scratchpad_desc(), engine(), nullptr),
          arguments{{DNNL_ARG_SRC, a},
                    {DNNL_ARG_WEIGHTS, b},
                    {DNNL_ARG_DST, c},
                    {DNNL_ARG_SCRATCHPAD, scratchpad}} {
        if (!scaled) return;
        const dnnl::memory::desc one({1}, dnnl::memory::data_type::f32, dnnl::memory::dims{1});
        arguments.emplace(DNNL_ARG_ATTR_OUTPUT_SCALES, dnnl::memory(one, engine(), &scale));
    }
    State(const State&) = delete;  // `arguments` points to `scale`
    State& operator=(const State&) = delete;

    dnnl::matmul::primitive_desc chosen;
    dnnl::matmul primitive;  // of `chosen`, once it was called
    dnnl::stream stream;
    float scale = 1;
    dnnl::memory a, b, c, scratchpad;
    std::unordered_map<int, dnnl::memory> arguments;
};

std::string gemm_implementation(const GemmDesc& d) { return implementation(describe(d)); }

Gemm::Gemm(const GemmDesc& d) {
    dnnl::matmul::primitive_desc pd = describe(d);
    check(!implementation(pd).empty(),
          "oneDNN has no product of {} matrices ({} x {}) ({} x {}) for {}", name(d.in), d.m, d.k,
          d.k, d.n, instruction_set());
    state_ = std::make_shared<State>(std::move(pd), d.scaled);
}

std::int64_t Gemm::scratch_bytes() const {
    return static_cast<std::int64_t>(state_->scratchpad.get_desc().get_size());
}

void Gemm::operator()(const void* a, const void* b, void* c, float scale,
                      std::byte* scratch) const {
    State& s = *state_;
    s.scale = scale;
    // oneDNN only reads A and B; its interface has no const.
    s.a.set_data_handle(const_cast<void*>(a));
    s.b.set_data_handle(const_cast<void*>(b));
    s.c.set_data_handle(c);
    s.scratchpad.set_data_handle(scratch);
    if (!s.primitive) s.primitive = dnnl::matmul(s.chosen);
    s.primitive.execute(s.stream, s.arguments);
}

void sgemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
           const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
           std::int64_t ldc) {
    // The arguments were checked when the plan was made; what is left to fail is memory.
    check(dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta,
                     c, ldc) == dnnl_success,
          "oneDNN could not multiply ({} x {}) ({} x {}): out of memory", m, k, k, n);
}

bool has_bf16_products() {
    const auto bits = [](dnnl::cpu_isa isa) { return static_cast<unsigned>(isa); };
    const unsigned wanted = bits(dnnl::cpu_isa::avx512_core_bf16);
    return (bits(dnnl::get_effective_cpu_isa()) & wanted) == wanted;
}

std::string instruction_set() {
    switch (dnnl::get_effective_cpu_isa()) {
        case dnnl::cpu_isa::sse41:
            return "SSE4.1";
        case dnnl::cpu_isa::avx:
            return "AVX";
        case dnnl::cpu_isa::avx2:
        case dnnl::cpu_isa::avx2_vnni:
            return "AVX2";
        case dnnl::cpu_isa::avx512_core_bf16:
            return "AVX-512 with BF16";
        case dnnl::cpu_isa::avx512_core_amx:
            return "AMX";
        default:
            return "AVX-512";
    }
}

}  // namespace octavo::cpu
