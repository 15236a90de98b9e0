// What the CUDA kernels share: grids, packs of numbers moved at once, sums over lanes, atomics.
//
// A kernel is launched under a c10::cuda::CUDAGuard for its tensors' device, on
// c10::cuda::getCurrentCUDAStream(), and followed by C10_CUDA_KERNEL_LAUNCH_CHECK().
#pragma once

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cstdint>
#include <limits>

namespace amodal2 {

constexpr int kWarp = 32;
constexpr int kBlock = 256;  // threads of a block, where nothing speaks for another number
constexpr int kPackBytes = 16;
constexpr unsigned kAllLanes = 0xffffffffu;

// Number of blocks for `count` pieces of work, `per_block` of them in each.
inline unsigned int block_count(const char* op, int64_t count, int64_t per_block) {
  const int64_t blocks = (count + per_block - 1) / per_block;
  TORCH_CHECK_VALUE(blocks <= std::numeric_limits<int32_t>::max(), op, ": expected at most ",
                    std::numeric_limits<int32_t>::max(), " blocks of work, got ", blocks);
  return static_cast<unsigned int>(blocks);
}

// kCount numbers side by side in memory, moved by one instruction if they fill up to 16 bytes.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T at[kCount];
};

template <typename T, int kCount>
__device__ inline Pack<T, kCount> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, kCount>*>(from);
}

template <typename T, int kCount>
__device__ inline void store_pack(T* to, const Pack<T, kCount>& pack) {
  *reinterpret_cast<Pack<T, kCount>*>(to) = pack;
}

// Whether rows of `length` numbers from the start of a contiguous tensor on are whole packs.
inline bool rows_are_packs(const at::Tensor& tensor, int64_t length) {
  return length * tensor.element_size() % kPackBytes == 0 &&
         reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % kPackBytes == 0;
}

// Sums over groups of `width` neighbouring lanes, a power of two; every lane of the warp takes part
// and gets the sum of its group, always added in the same order.
template <typename T>
__device__ inline T sum_lanes(T value, int width = kWarp) {
  for (int step = width / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, step);
  }
  return value;
}

// Adds a pack to memory, number by number; the order among threads is undefined, so a caller must
// say that it is not deterministic.
template <typename T, int kCount>
__device__ inline void add_atomically(T* to, const Pack<T, kCount>& pack) {
  int i = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (sizeof(T) == 4) {
    for (; i + 4 <= kCount; i += 4) {
      atomicAdd(reinterpret_cast<float4*>(to + i),
                make_float4(pack.at[i], pack.at[i + 1], pack.at[i + 2], pack.at[i + 3]));
    }
  }
#endif
  for (; i < kCount; ++i) atomicAdd(to + i, pack.at[i]);
}

}  // namespace amodal2
