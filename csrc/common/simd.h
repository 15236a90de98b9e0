// Vectors of 64 bytes, written once and compiled for several instruction sets.
//
// A function marked AMODAL2_INLINE is inlined into its caller and so compiled for the caller's
// instruction set. AMODAL2_TARGET_* mark such callers; `simd_level` tells which of them this
// processor runs, as PyTorch sees it (ATEN_CPU_CAPABILITY lowers it). Needs GCC or Clang.
#pragma once

#include <cstdint>

#include <ATen/Version.h>

// Vectors are passed between inlined functions only, so how a call would pass them does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"

#define AMODAL2_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__)
#define AMODAL2_TARGET_AVX2 __attribute__((target("avx2,fma")))
#define AMODAL2_TARGET_AVX512 \
  __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#endif

#if defined(__clang__)
#define AMODAL2_SHUFFLE(index_type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define AMODAL2_SHUFFLE(index_type, a, b, ...) __builtin_shuffle(a, b, (index_type){__VA_ARGS__})
#endif

namespace amodal2 {

enum class SimdLevel { kBaseline, kAvx2, kAvx512 };

inline SimdLevel simd_level() {
  static const SimdLevel level = [] {
    const std::string name = at::get_cpu_capability();
    if (name == "AVX512") return SimdLevel::kAvx512;
    return name == "AVX2" ? SimdLevel::kAvx2 : SimdLevel::kBaseline;
  }();
  return level;
}

constexpr int64_t kVectorBytes = 64;
typedef float FloatVector __attribute__((vector_size(64), may_alias));
typedef double DoubleVector __attribute__((vector_size(64), may_alias));
typedef int32_t FloatIndex __attribute__((vector_size(64)));
typedef int64_t DoubleIndex __attribute__((vector_size(64)));

template <typename T>
struct Vector;
template <>
struct Vector<float> {
  typedef FloatVector type;
  static constexpr int64_t kLanes = 16;
};
template <>
struct Vector<double> {
  typedef DoubleVector type;
  static constexpr int64_t kLanes = 8;
};

// Lane j of pair<kSize>(a, b) is the sum of two lanes of a or b. Applied with kSize = 2, 4, ... up to
// the number of lanes on a binary tree of vectors, it leaves the sum of vector j in lane j.
template <int kSize>
AMODAL2_INLINE FloatVector pair_sum(const FloatVector& a, const FloatVector& b) {
  if constexpr (kSize == 2) {
    return AMODAL2_SHUFFLE(FloatIndex, a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
        AMODAL2_SHUFFLE(FloatIndex, a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  } else if constexpr (kSize == 4) {
    return AMODAL2_SHUFFLE(FloatIndex, a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
        AMODAL2_SHUFFLE(FloatIndex, a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  } else if constexpr (kSize == 8) {
    return AMODAL2_SHUFFLE(FloatIndex, a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
        AMODAL2_SHUFFLE(FloatIndex, a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
  } else {
    return AMODAL2_SHUFFLE(FloatIndex, a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
        AMODAL2_SHUFFLE(FloatIndex, a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  }
}

template <int kSize>
AMODAL2_INLINE DoubleVector pair_sum(const DoubleVector& a, const DoubleVector& b) {
  if constexpr (kSize == 2) {
    return AMODAL2_SHUFFLE(DoubleIndex, a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
        AMODAL2_SHUFFLE(DoubleIndex, a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  } else if constexpr (kSize == 4) {
    return AMODAL2_SHUFFLE(DoubleIndex, a, b, 0, 1, 4, 5, 8, 9, 12, 13) +
        AMODAL2_SHUFFLE(DoubleIndex, a, b, 2, 3, 6, 7, 10, 11, 14, 15);
  } else {
    return AMODAL2_SHUFFLE(DoubleIndex, a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
        AMODAL2_SHUFFLE(DoubleIndex, a, b, 1, 3, 5, 7, 9, 11, 13, 15);
  }
}

}  // namespace amodal2
