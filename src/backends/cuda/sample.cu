// A cluster of eight blocks draws the token of a row, in one launch. Each of its 128 warps has a
// share of the ids, one after the other; what they sum up, they tell each other through shared
// memory. Logits come from memory once: later passes find them in the L1 or L2.
//
// Without cuts there are three passes: the largest logit, the mass of each share, and the running
// sum of the share in which the token is. Cuts are found digit by digit of the logits' order, two
// bits in a pass. Masses are integers (base/sample_rule.h), so no order of additions matters.
#include <limits>

#include "backends/cuda/kernels.cuh"
#include "backends/cuda/ptx.cuh"
#include "base/sample_rule.h"

namespace octavo::cuda {
namespace {

constexpr int kThreads = 512, kCluster = 8;
constexpr int kWarps = kThreads / kWarp, kShares = kCluster * kWarps;
constexpr int kDigitBits = 2, kSums = (1 << kDigitBits) - 1;  // one for each digit but 0
constexpr int kFromMemory = 4, kFromCache = 2;                // loads of a thread under way

struct Params {
    const float *logits, *reals;
    const std::int32_t* integers;
    std::int32_t* tokens;
    float* log_probabilities;
    int v;
};

// ---- Warps and the cluster ---------------------------------------------------------------------

__device__ inline Mass warp_most(Mass x) {
#pragma unroll
    for (int lane = kWarp / 2; lane > 0; lane /= 2) {
        x = max(x, __shfl_xor_sync(0xFFFFFFFF, x, lane));
    }
    return x;
}

// The sum of the lanes up to this one.
__device__ inline Mass running_sum(Mass x, int lane) {
#pragma unroll
    for (int by = 1; by < kWarp; by *= 2) {
        const Mass before = __shfl_up_sync(0xFFFFFFFF, x, by);
        if (lane >= by) x += before;
    }
    return x;
}

using ByShare = Mass[kShares];

// What the warps of a cluster tell each other, at every block of it.
class Exchange {
  public:
    __device__ Exchange(ByShare (*memory)[kSums], int share, int lane)
        : memory_(memory), share_(share), lane_(lane) {}

    // Of each share its kCount numbers, of which all lanes of its warp have the same. They stay
    // until the next but one: a warp may tell the next while another still reads these.
    template <int kCount>
    __device__ const ByShare* tell(const Mass (&x)[kCount]) {
        ByShare* told = memory_[turn_];
        turn_ ^= 1;
        if (lane_ < kCluster) {
#pragma unroll
            for (int k = 0; k < kCount; ++k) {
                const std::uint32_t here = ptx::shared_address(&told[k][share_]);
                ptx::st_shared_cluster(ptx::mapa(here, lane_), x[k]);
            }
        }
        __syncwarp();
        ptx::barrier_cluster();
        return told;
    }

    __device__ int share() const { return share_; }
    // Of all shares, and of those before this warp's.
    __device__ Mass sum(const ByShare& x) const { return sum_before(x, kShares); }
    __device__ Mass sum_before(const ByShare& x) const { return sum_before(x, share_); }
    __device__ Mass most(const ByShare& x) const {
        Mass most = 0;
#pragma unroll
        for (int i = 0; i < kShares; i += kWarp) most = max(most, x[i + lane_]);
        return warp_most(most);
    }

  private:
    __device__ Mass sum_before(const ByShare& x, int end) const {
        Mass sum = 0;
#pragma unroll
        for (int i = 0; i < kShares; i += kWarp) sum += i + lane_ < end ? x[i + lane_] : 0;
        return warp_sum(sum);
    }

    ByShare (*memory_)[kSums];
    int share_, lane_, turn_ = 0;
};

// ---- One warp's share of a row -----------------------------------------------------------------

// Rows of an odd vocabulary do not begin at multiples of 16 bytes. Packets of four do: the first
// of a row may begin before it and the last one end behind it.
class Share {
  public:
    __device__ Share(const float* row, int ids, int share, int lane)
        : row_(row), ids_(ids), lane_(lane) {
        const auto address = reinterpret_cast<std::uintptr_t>(row);
        lead_ = static_cast<int>(address % sizeof(float4) / sizeof(float));
        const int packets = (lead_ + ids + 3) / 4, each = (packets + kShares - 1) / kShares;
        begin_ = min(share * each, packets);
        end_ = min(begin_ + each, packets);
    }

    // f(id, logit) for each of them, by any lane.
    template <int kAhead, class F>
    __device__ void for_each(F&& f) const {
        const auto* packets = reinterpret_cast<const float4*>(row_ - lead_);
        const int first = max(begin_, lead_ > 0 ? 1 : 0), last = min(end_, (lead_ + ids_) / 4);
        for (int q = first + lane_; q < last; q += kAhead * kWarp) {
            float4 z[kAhead];
#pragma unroll
            for (int i = 0; i < kAhead; ++i) {
                if (q + i * kWarp < last) z[i] = packets[q + i * kWarp];
            }
#pragma unroll
            for (int i = 0; i < kAhead; ++i) {
                if (q + i * kWarp < last) {
                    const int id = 4 * (q + i * kWarp) - lead_;
                    f(id, z[i].x);
                    f(id + 1, z[i].y);
                    f(id + 2, z[i].z);
                    f(id + 3, z[i].w);
                }
            }
        }
        const int q = lane_ == 0 ? begin_ : end_ - 1;
        const bool part = lane_ == 0 ? q < min(first, end_) : lane_ == 1 && q >= max(first, last);
        if (part) for_packet(q, [&](int, int id) { f(id, row_[id]); });
    }

    // The first id, at all lanes, whose running sum of mass(id, logit) exceeds `target`, which is
    // less than the sum of all of them.
    template <class MassOf>
    __device__ int find(Mass target, MassOf&& mass) const {
        for (int q = begin_; q < end_; q += kWarp) {
            Mass masses[4] = {}, sum = 0;
            if (q + lane_ < end_) {
                for_packet(q + lane_, [&](int i, int id) {
                    masses[i] = mass(id, row_[id]);
                    sum += masses[i];
                });
            }
            const Mass running = running_sum(sum, lane_);
            const unsigned past = __ballot_sync(0xFFFFFFFF, running > target);
            if (past == 0) {
                target -= __shfl_sync(0xFFFFFFFF, running, kWarp - 1);
                continue;
            }
            Mass rest = running - sum;
            int passed = 0;  // ids of this lane's packet whose running sum is not past the target
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                rest += masses[i];
                passed += rest <= target ? 1 : 0;
            }
            const int id = 4 * (q + lane_) - lead_ + passed;
            return __shfl_sync(0xFFFFFFFF, id, __ffs(static_cast<int>(past)) - 1);
        }
        return -1;
    }

  private:
    // f(i, id) for the ids of packet q, each its i-th.
    template <class F>
    __device__ void for_packet(int q, F&& f) const {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int id = 4 * q - lead_ + i;
            if (id >= 0 && id < ids_) f(i, id);
        }
    }

    const float* row_;
    int ids_, lead_, lane_;
    int begin_, end_;  // packets
};

// ---- A row -------------------------------------------------------------------------------------

struct Found {
    Mass total;
    int id;  // -1 in all warps but the one whose share it is in
};

// Masses are functions of key, z and id.
struct KeptMass {
    Cut cut;
    float max;

    __device__ Mass operator()(std::uint32_t key, float z, int id) const {
        return cut.keeps(key, id) ? mass_of(z, max) : 0;
    }
};

class Row {
  public:
    __device__ Row(const Share& share, const Exchange& exchange, float temperature)
        : share_(share), exchange_(exchange), temperature_(temperature) {}

    // The largest logit, ranked.
    __device__ Mass most() {
        Mass most = 0;
        share_.for_each<kFromMemory>([&](int id, float z) { most = max(most, ranked(z, id)); });
        most = exchange_.most(exchange_.tell({warp_most(most)})[0]);
        max_ = over_temperature(ranked_logit(most));
        return most;
    }
    __device__ float max_z() const { return max_; }
    __device__ float over_temperature(float logit) const {
        return temperature_ == 1 ? logit : logit / temperature_;
    }

    __device__ Cut cut(std::int32_t top_k, float top_p, int ids) {
        Cut cut;
        if (top_k > 0 && top_k < ids) {
            cut.key = border(top_k, [](std::uint32_t, float, int) { return Mass{1}; }).key;
        }
        if (!(top_p < 1)) return cut;
        const KeptMass mass{cut, max_};
        const Mass limit = top_p_limit(top_p, sum(mass));
        const Border least = border(limit, mass);
        const Mass ties = least.ties(limit, mass_of(logit_of(least.key), max_));
        const auto tie = [&](std::uint32_t key, float, int) { return Mass{key == least.key}; };
        const Found last = find(tie, [&](Mass) { return ties - 1; });
        const Mass after = static_cast<Mass>(last.id + 1);  // 0 where it is not
        return {least.key, static_cast<std::int32_t>(sum_of_warps(after)) - 1};
    }

    // The first id whose running sum exceeds target(total), if anyone's does.
    template <class MassOf, class Target>
    __device__ Found find(const MassOf& mass, Target&& target) {
        const ByShare& told = exchange_.tell({warp_sum(mine(mass))})[0];
        const int share = exchange_.share();
        const Mass total = exchange_.sum(told), before = exchange_.sum_before(told);
        const Mass wanted = target(total);
        if (wanted < before || wanted - before >= told[share]) return {total, -1};
        return {total, share_.find(wanted - before, of_logit(mass))};
    }

  private:
    template <class MassOf>
    __device__ auto of_logit(const MassOf& mass) const {
        return [&mass, this](int id, float logit) {
            const float z = over_temperature(logit);
            return mass(order_key(z), z, id);
        };
    }
    // This lane's part of the sum.
    template <class MassOf>
    __device__ Mass mine(const MassOf& mass) const {
        Mass sum = 0;
        share_.for_each<kFromCache>(
            [&, at = of_logit(mass)](int id, float logit) { sum += at(id, logit); });
        return sum;
    }
    __device__ Mass sum_of_warps(Mass x) { return exchange_.sum(exchange_.tell({x})[0]); }
    template <class MassOf>
    __device__ Mass sum(const MassOf& mass) {
        return sum_of_warps(warp_sum(mine(mass)));
    }

    template <class MassOf>
    __device__ Border border(Mass limit, const MassOf& mass) {
        Border border;
        for (int shift = 32 - kDigitBits; shift >= 0; shift -= kDigitBits) {
            Mass sums[kSums] = {};
            share_.for_each<kFromCache>([&](int id, float logit) {
                const float z = over_temperature(logit);
                const std::uint32_t key = order_key(z), digit = (key ^ border.key) >> shift;
                if (digit - 1 >= kSums) return;
                const Mass m = mass(key, z, id);
#pragma unroll
                for (int i = 0; i < kSums; ++i) sums[i] += digit == i + 1 ? m : 0;
            });
#pragma unroll
            for (int i = 0; i < kSums; ++i) sums[i] = warp_sum(sums[i]);
            const ByShare* told = exchange_.tell(sums);
            std::uint32_t digit = kSums;
            for (; digit > 0; --digit) {
                const Mass more = exchange_.sum(told[digit - 1]);
                if (border.above + more >= limit) break;
                border.above += more;
            }
            border.key |= digit << shift;
        }
        return border;
    }

    Share share_;
    Exchange exchange_;
    float temperature_, max_ = 0;
};

__global__ void __cluster_dims__(kCluster) __launch_bounds__(kThreads, 2)
    sample_kernel(const Params p) {
    __shared__ ByShare told[2][kSums];
    const auto r = static_cast<std::int64_t>(blockIdx.x / kCluster);
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int share = ptx::cluster_ctarank() * kWarps + static_cast<int>(threadIdx.x) / kWarp;
    const float given_temperature = p.reals[2 * r];
    const std::int32_t* how = p.integers + 4 * r;
    const float* logits = p.logits + r * p.v;
    const int ids = max(0, min(how[1], p.v));
    const bool greedy = given_temperature == 0;
    const float temperature = greedy ? 1.0f : given_temperature;

    ptx::barrier_cluster();  // all blocks run: their memory may be written
    Row row({logits, ids, share, lane}, {told, share, lane}, temperature);
    const Mass most = row.most();
    if (!(temperature > 0) || !is_finite(row.max_z())) {
        if (share > 0 || lane > 0) return;
        p.tokens[r] = -1;
        p.log_probabilities[r] = std::numeric_limits<float>::quiet_NaN();
        return;
    }
    const Cut cut = greedy ? Cut{} : row.cut(how[0], p.reals[2 * r + 1], ids);
    const std::int32_t fixed = how[3] >= 0 ? how[3] : greedy ? ranked_id(most) : -1;
    const auto random = static_cast<std::uint32_t>(how[2]);
    const Found found = row.find(KeptMass{cut, row.max_z()}, [&](Mass total) {
        return fixed >= 0 ? ~Mass{0} : draw_target(random, total);
    });
    const bool writes = lane == 0 && (fixed >= 0 ? share == 0 : found.id >= 0);
    if (!writes) return;
    const std::int32_t token = fixed >= 0 ? fixed : found.id;
    float log_probability = -std::numeric_limits<float>::infinity();
    if (token < ids) {
        const float z = row.over_temperature(logits[token]);
        const double relative = static_cast<double>(z) - static_cast<double>(row.max_z());
        const double sum = static_cast<double>(found.total) * kMassUnit;
        if (cut.keeps(order_key(z), token)) {
            log_probability = static_cast<float>(relative - log(sum));
        }
    }
    p.tokens[r] = token;
    p.log_probabilities[r] = log_probability;
}

void sample(const KernelCall& call) {
    const Shape& shape = call.in[0].type.shape;
    if (shape[0] == 0) return;
    const Params p{.logits = call.in[0].as<float>(),
                   .reals = call.in[1].as<float>(),
                   .integers = call.in[2].as<std::int32_t>(),
                   .tokens = call.out[0].as<std::int32_t>(),
                   .log_probabilities = call.out[1].as<float>(),
                   .v = static_cast<int>(shape[1])};
    sample_kernel<<<static_cast<unsigned>(kCluster * shape[0]), kThreads, 0, stream()>>>(p);
    launched("sample");
}

Prepared prepare(const NodeView&) { return {sample}; }

}  // namespace

void register_sample(KernelRegistry& registry) {
    registry.add<Sample>({"sample", takes_all, prepare});
}

}  // namespace octavo::cuda
