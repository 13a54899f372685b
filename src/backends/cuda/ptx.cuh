// One function per instruction of Hopper's asynchronous machinery, named after it; the products are
// in wgmma.cuh. Shared memory is given by its 32-bit address.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace octavo::cuda::ptx {

__device__ inline std::uint32_t shared_address(const void* p) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}
__device__ inline void st_shared(std::uint32_t to, std::uint32_t x) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(x) : "memory");
}
__device__ inline void st_shared(std::uint32_t to, std::uint32_t x, std::uint32_t y) {
    asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(to), "r"(x), "r"(y) : "memory");
}

// Eight or sixteen bytes that nobody writes while the kernel runs and that are read once, or zeros.
// The 256 bytes around them come to L2: heads lie side by side, and others read the next one soon.
template <class W>
__device__ inline W ld_global_nc(const void* from, bool valid) {
    W x;
    if constexpr (sizeof(W) == 16) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %5, 0;\n"
            "mov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\nmov.b32 %3, 0;\n"
            "@p ld.global.nc.L1::no_allocate.L2::256B.v4.b32 {%0, %1, %2, %3}, [%4];\n}\n"
            : "=&r"(x.x), "=&r"(x.y), "=&r"(x.z), "=&r"(x.w)
            : "l"(from), "r"(static_cast<int>(valid)));
    } else {
        static_assert(sizeof(W) == 8);
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %3, 0;\nmov.b32 %0, 0;\nmov.b32 %1, 0;\n"
            "@p ld.global.nc.L1::no_allocate.L2::256B.v2.b32 {%0, %1}, [%2];\n}\n"
            : "=&r"(x.x), "=&r"(x.y)
            : "l"(from), "r"(static_cast<int>(valid)));
    }
    return x;
}

// The same place in block `rank` of the cluster, and a store there.
__device__ inline std::uint32_t mapa(std::uint32_t address, int rank) {
    std::uint32_t remote;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
    return remote;
}
__device__ inline void st_shared_cluster(std::uint32_t to, float x) {
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(to), "f"(x) : "memory");
}
__device__ inline void st_shared_cluster(std::uint32_t to, std::uint64_t x) {
    asm volatile("st.shared::cluster.u64 [%0], %1;" ::"r"(to), "l"(x) : "memory");
}

// ---- Warpgroups, blocks, clusters --------------------------------------------------------------

// ptxas heeds them only in a kernel with launch bounds, in a branch of its own per role.
template <int kRegisters>
__device__ inline void setmaxnreg_inc() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void setmaxnreg_dec() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

__device__ inline int cluster_ctarank() {
    int rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
__device__ inline void barrier_cluster() {
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
// For `threads` threads of the block; 0 is __syncthreads().
__device__ inline void bar_sync(int barrier, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// ---- mbarrier ----------------------------------------------------------------------------------

__device__ inline void mbarrier_init(std::uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
__device__ inline void fence_mbarrier_init() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void mbarrier_arrive(std::uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ inline void mbarrier_arrive_expect_tx(std::uint32_t barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}
// The same barrier in block `rank` of the cluster. With `.release.cluster`, the compiler puts a
// fence of the whole GPU before it, once per stage.
__device__ inline void mbarrier_arrive_cluster(std::uint32_t barrier, int rank) {
    asm volatile(
        "{\n.reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}\n" ::"r"(barrier),
        "r"(rank)
        : "memory");
}
__device__ inline bool mbarrier_try_wait_parity(std::uint32_t barrier, std::uint32_t parity) {
    std::uint32_t done;
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
    return done != 0;
}

// ---- Asynchronous copies -----------------------------------------------------------------------

// Four bytes, or zeros.
__device__ inline void cp_async(std::uint32_t to, const void* from, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from),
                 "r"(valid ? 4 : 0)
                 : "memory");
}
// The same for 16 bytes, not through L1.
__device__ inline void cp_async_16(std::uint32_t to, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(valid ? 16 : 0)
                 : "memory");
}
__device__ inline void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Multiples of 16 bytes.
__device__ inline void cp_async_bulk(std::uint32_t to, const void* from, int bytes,
                                     std::uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
        " [%0], [%1], %2, [%3];" ::"r"(to),
        "l"(from), "r"(bytes), "r"(barrier)
        : "memory");
}
__device__ inline void prefetch_tensormap(const CUtensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// x is the fastest coordinate. What lies outside the tensor arrives as zeros and counts as bytes.
__device__ inline void cp_async_bulk_tensor_2d(std::uint32_t to, const CUtensorMap* map, int x,
                                               int y, std::uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
        "l"(map), "r"(x), "r"(y), "r"(barrier)
        : "memory");
}
// To the same place in each block of the mask, whose own barrier counts it.
__device__ inline void cp_async_bulk_tensor_2d_multicast(std::uint32_t to, const CUtensorMap* map,
                                                         int x, int y, std::uint32_t barrier,
                                                         std::uint16_t blocks) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
        "l"(map), "r"(x), "r"(y), "r"(barrier), "h"(blocks)
        : "memory");
}
// To global memory, without what lies outside the tensor.
__device__ inline void cp_async_bulk_tensor_2d_store(const CUtensorMap* map, int x, int y,
                                                     std::uint32_t from) {
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map),
        "r"(x), "r"(y), "r"(from)
        : "memory");
}
__device__ inline void cp_reduce_async_bulk_tensor_2d_add(const CUtensorMap* map, int x, int y,
                                                          std::uint32_t from) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group"
        " [%0, {%1, %2}], [%3];" ::"l"(map),
        "r"(x), "r"(y), "r"(from)
        : "memory");
}
// The same for tensors of three extents, from one plane.
__device__ inline void cp_async_bulk_tensor_3d(std::uint32_t to, const CUtensorMap* map, int x,
                                               int y, int z, std::uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
        "l"(map), "r"(x), "r"(y), "r"(z), "r"(barrier)
        : "memory");
}
__device__ inline void cp_async_bulk_tensor_3d_multicast(std::uint32_t to, const CUtensorMap* map,
                                                         int x, int y, int z, std::uint32_t barrier,
                                                         std::uint16_t blocks) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
        "l"(map), "r"(x), "r"(y), "r"(z), "r"(barrier), "h"(blocks)
        : "memory");
}
__device__ inline void cp_async_bulk_tensor_3d_store(const CUtensorMap* map, int x, int y, int z,
                                                     std::uint32_t from) {
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(
            map),
        "r"(x), "r"(y), "r"(z), "r"(from)
        : "memory");
}
__device__ inline void cp_reduce_async_bulk_tensor_3d_add(const CUtensorMap* map, int x, int y,
                                                          int z, std::uint32_t from) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.bulk_group"
        " [%0, {%1, %2, %3}], [%4];" ::"l"(map),
        "r"(x), "r"(y), "r"(z), "r"(from)
        : "memory");
}
__device__ inline void cp_async_bulk_commit_group() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// All but the thread's latest kPending groups have read their shared memory.
template <int kPending>
__device__ inline void cp_async_bulk_wait_group_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
// Ordinary stores to shared memory come before later bulk copies.
__device__ inline void fence_proxy_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace octavo::cuda::ptx
