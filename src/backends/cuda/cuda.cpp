#include "backends/cuda/cuda.h"

#include <cudnn.h>

#include <algorithm>
#include <cstdlib>
#include <functional>

#include "backends/cuda/breadcrumbs.h"
#include "backends/cuda/device.h"
#include "backends/cuda/gpu_checks.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/matmul.h"
#include "backends/cuda/nvml.h"
#include "backends/cuda/staging.h"

namespace octavo {
namespace {

using cuda::device;
using cuda::expect;
using cuda::stream;

cuda::GpuFacts query_gpu() {
    cuda::GpuFacts facts{.runtime = CUDART_VERSION};
    cudaDriverGetVersion(&facts.driver);
    if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) facts.visible = visible;
    if (facts.driver == 0) return facts;
    cudaDeviceProp properties{};
    int mode = cudaComputeModeDefault;
    cudaError_t status = cudaGetDeviceCount(&facts.devices);
    if (status == cudaSuccess) status = cudaGetDeviceProperties(&properties, 0);
    if (status == cudaSuccess) status = cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, 0);
    cudaGetLastError();  // it is reported here, and is no fault of a later launch
    if (status != cudaSuccess) facts.error = cudaGetErrorString(status);
    facts.name = properties.name;
    facts.major = properties.major;
    facts.minor = properties.minor;
    facts.prohibited = mode == cudaComputeModeProhibited;
    return facts;
}

// A run of launches, recorded once and replayed as one.
class Recording {
  public:
    explicit Recording(const std::function<void()>& launch) {
        expect(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal),
               "cudaStreamBeginCapture");
        cudaGraph_t graph = nullptr;
        try {
            launch();
        } catch (...) {
            cudaStreamEndCapture(stream(), &graph);
            if (graph) cudaGraphDestroy(graph);
            throw;
        }
        expect(cudaStreamEndCapture(stream(), &graph), "cudaStreamEndCapture");
        const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
        cudaGraphDestroy(graph);
        expect(status, "cudaGraphInstantiate");
    }
    ~Recording() {
        if (!cuda::faulted()) cudaGraphExecDestroy(executable_);
    }
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    // The driver crashes on a recording that follows a fault.
    void replay() const {
        cuda::expect_no_fault();
        expect(cudaGraphLaunch(executable_, stream()), "cudaGraphLaunch");
    }

  private:
    cudaGraphExec_t executable_ = nullptr;
};

class CudaStopwatch final : public Stopwatch {
  public:
    CudaStopwatch() = default;
    CudaStopwatch(const CudaStopwatch&) = delete;
    CudaStopwatch& operator=(const CudaStopwatch&) = delete;
    ~CudaStopwatch() override {
        if (cuda::faulted()) return;
        for (const cudaEvent_t e : marks_) cudaEventDestroy(e);
    }
    void mark() override {
        marks_.emplace_back();
        expect(cudaEventCreate(&marks_.back()), "cudaEventCreate");
        expect(cudaEventRecord(marks_.back(), stream()), "cudaEventRecord");
    }
    std::vector<double> intervals() override {
        std::vector<double> seconds;
        if (marks_.empty()) return seconds;
        expect(cudaEventSynchronize(marks_.back()), "cudaEventSynchronize");
        for (std::size_t i = 1; i < marks_.size(); ++i) {
            float ms = 0;
            expect(cudaEventElapsedTime(&ms, marks_[i - 1], marks_[i]), "cudaEventElapsedTime");
            seconds.push_back(double{ms} * 1e-3);
        }
        return seconds;
    }

  private:
    std::vector<cudaEvent_t> marks_;
};

class CudaBackend final : public Backend {
  public:
    explicit CudaBackend(std::size_t mark_spacing) : mark_spacing_(mark_spacing) {}

    std::string_view name() const override { return "cuda"; }
    const KernelRegistry& kernels() const override { return cuda::kernel_registry(); }

    Target target() const override {
        return {.head_chunk_bytes = std::int64_t{1} << 30,
                .k_major_fp8 = true,
                .accumulate_products = true,
                .adds_bias = cuda::adds_bias,
                .expert_rows = 128,
                .reads_joined = true,
                .fused_quantisers = true};
    }
    std::int64_t yardstick() const override { return 8192; }

    std::byte* allocate(std::int64_t bytes) override {
        if (bytes == 0) return nullptr;
        void* memory = nullptr;
        const cudaError_t status = cudaMalloc(&memory, static_cast<std::size_t>(bytes));
        if (status == cudaErrorMemoryAllocation) {
            cudaGetLastError();  // it is reported here, and is no fault of a later launch
            fail("{}", cuda::no_memory_text(gpu_memory(), bytes));
        }
        expect(status, "cudaMalloc");
        own_bytes_ += bytes;
        cuda::clear(memory, bytes);
        return static_cast<std::byte*>(memory);
    }
    void release(std::byte* memory, std::int64_t bytes) override {
        own_bytes_ -= bytes;
        if (cuda::faulted()) return;
        cudaStreamSynchronize(stream());
        cudaFree(memory);
    }
    std::int64_t available_bytes() const override {
        // Library workspaces and the graphs themselves come on top of the plan.
        constexpr std::int64_t kReserve = std::int64_t{512} << 20;
        return std::max(gpu_memory().free - kReserve, std::int64_t{0});
    }
    std::string memory_note() const override { return cuda::memory_note(gpu_memory()); }

    void copy_in(std::byte* to, const std::byte* from, std::int64_t bytes) override {
        staging_.send(to, from, bytes);
    }
    void copy_out(std::byte* to, const std::byte* from, std::int64_t bytes) override {
        if (bytes == 0) return;
        expect(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost,
                               stream()),
               "cudaMemcpyAsync");
        synchronize();
    }
    void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override {
        cuda::copy(from, to, bytes);
    }
    void synchronize() override {
        expect(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
    }

    std::unique_ptr<Stopwatch> make_stopwatch() override {
        return std::make_unique<CudaStopwatch>();
    }
    std::function<void()> record(const std::function<void()>& launch) override {
        auto recording = std::make_shared<Recording>(launch);
        return [recording] { recording->replay(); };
    }

    std::unique_ptr<Trail> make_trail(const std::string& plan,
                                      const std::vector<std::string>& steps) override {
        return cuda::make_trail(plan, steps, mark_spacing_);
    }

  private:
    cuda::GpuMemory gpu_memory() const {
        std::size_t free = 0, total = 0;
        expect(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
        return {static_cast<std::int64_t>(free), static_cast<std::int64_t>(total), own_bytes_};
    }

    cuda::Staging staging_;
    std::size_t mark_spacing_;
    std::int64_t own_bytes_ = 0;
};

}  // namespace

namespace cuda {

const KernelRegistry& kernel_registry() {
    static const KernelRegistry registry = [] {
        KernelRegistry r;
#define OP(T, file) register_##file(r);
#include "graph/ops.inc"
#undef OP
        return r;
    }();
    return registry;
}

}  // namespace cuda

std::optional<std::string> why_no_cuda() {
    const auto refusal = cuda::why_not(query_gpu());
    return refusal ? std::optional(refusal->reason) : std::nullopt;
}

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options) {
    if (const auto refusal = cuda::why_not(query_gpu())) {
        fail(
            "backend cuda: {}\n  {}, or compute with --backend cpu. octavo doctor says what there "
            "is.",
            refusal->reason, refusal->remedy);
    }
    device().set_deterministic(options.deterministic);
    return std::make_unique<CudaBackend>(options.trace ? 1 : cuda::kMarkSpacing);
}

std::vector<std::pair<std::string, std::string>> cuda_facts() {
    int driver = 0, runtime = 0, clock_khz = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    cudaDeviceProp p;
    expect(cudaGetDeviceProperties(&p, 0), "cudaGetDeviceProperties");
    cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, 0);
    const std::size_t blas = cublasLtGetVersion(), dnn = cudnnGetVersion();
    return {
        {"GPU", fmt::format("{}, {} multiprocessors, up to {} MHz", p.name, p.multiProcessorCount,
                            clock_khz / 1000)},
        {"GPU memory", fmt::format("{:.1f} GB", static_cast<double>(p.totalGlobalMem) * 1e-9)},
        {"CUDA", fmt::format("{}, driver for {}", cuda::cuda_version_text(runtime),
                             cuda::cuda_version_text(driver))},
        {"NVIDIA driver", cuda::driver_version().value_or("unknown")},
        {"cuBLASLt", fmt::format("{}.{}.{}", blas / 10000, blas / 100 % 100, blas % 100)},
        {"cuDNN", fmt::format("{}.{}.{}", dnn / 10000, dnn / 100 % 100, dnn % 100)},
    };
}

std::vector<std::pair<std::string, double>> cuda_load() {
    std::vector<std::pair<std::string, double>> load;
    if (const auto mhz = cuda::nvml().sm_mhz()) load.emplace_back("sm_mhz", *mhz);
    if (const auto watts = cuda::nvml().watts()) load.emplace_back("watts", *watts);
    return load;
}

}  // namespace octavo
