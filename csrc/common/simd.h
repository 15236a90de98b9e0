// Vectors whose code is written once and compiled for several instruction sets.
//
// A function marked AMODAL2_INLINE is inlined into its caller and so compiled for the caller's
// instruction set. AMODAL2_TARGET_AVX2 marks such a caller, and `has_avx2` tells whether this
// processor runs it, as PyTorch sees it (ATEN_CPU_CAPABILITY=default denies it). Needs GCC or
// Clang.
#pragma once

#include <ATen/Version.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

// Vectors are passed between inlined functions only, so how a call would pass them does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"

#define AMODAL2_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__)
#define AMODAL2_TARGET_AVX2 __attribute__((target("avx2,fma")))
#endif

namespace amodal2 {

inline bool has_avx2() {
  static const bool has = [] {
    const std::string level = at::get_cpu_capability();
    return level == "AVX2" || level == "AVX512";
  }();
  return has;
}

// A vector of kBytes bytes, and one of integers with as many lanes.
template <typename T, int kBytes>
struct Vector {
  static constexpr int kLanes = kBytes / static_cast<int>(sizeof(T));
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Integer;
  typedef T type __attribute__((vector_size(kBytes), may_alias));
  typedef Integer Integers __attribute__((vector_size(kBytes), may_alias));
};

// Loads from and stores to any address of the vector's lanes.
template <typename V, typename T>
AMODAL2_INLINE V load_vector(const T* from) {
  V vector;
  std::memcpy(&vector, from, sizeof(V));
  return vector;
}

template <typename V, typename T>
AMODAL2_INLINE void store_vector(T* to, const V& vector) {
  std::memcpy(to, &vector, sizeof(V));
}

// Lists of lanes for `shuffle`: numbers from kLanes on are lanes of the second vector.
template <int... kLane>
using Lanes = std::integer_sequence<int, kLane...>;

template <typename T, int kBytes, int... kLane>
AMODAL2_INLINE typename Vector<T, kBytes>::type shuffle(
    const typename Vector<T, kBytes>::type& a, const typename Vector<T, kBytes>::type& b,
    Lanes<kLane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kLane...);
#else
  typedef typename Vector<T, kBytes>::Integer Index __attribute__((vector_size(kBytes)));
  return __builtin_shuffle(a, b, Index{kLane...});
#endif
}

// Every second lane of the two vectors in a row, from lane kFirst on.
template <int kFirst, int... kLane>
constexpr auto alternate_lanes(Lanes<kLane...>) {
  return Lanes<(2 * kLane + kFirst)...>();
}

// Lanes of the two vectors in turn, from lane kFirst of both on.
template <int kFirst, int... kLane>
constexpr auto interleaved_lanes(Lanes<kLane...>) {
  return Lanes<(kLane % 2 * static_cast<int>(sizeof...(kLane)) + kLane / 2 + kFirst)...>();
}

// One half of each group of kGroup lanes, the first for kOffset 0, the second for kGroup / 2.
template <int kGroup, int kOffset, int... kLane>
constexpr auto half_groups(Lanes<kLane...>) {
  constexpr int kHalf = kGroup / 2;
  return Lanes<(kLane / kHalf * kGroup + kLane % kHalf + kOffset)...>();
}

// Adds lanes of two vectors in pairs and returns as many sums as a vector has lanes. Applied to a
// binary tree of vectors, with kCount (2, 4, ... up to the number of lanes) leaves below each node,
// it puts the sum over the lanes of leaf j in lane j of the root.
template <typename T, int kBytes, int kCount>
AMODAL2_INLINE typename Vector<T, kBytes>::type pair_sums(
    const typename Vector<T, kBytes>::type& a, const typename Vector<T, kBytes>::type& b) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  constexpr int kGroup = 2 * kLanes / kCount;  // lanes that hold parts of one leaf's sum
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>();
  return shuffle<T, kBytes>(a, b, half_groups<kGroup, 0>(lanes)) +
      shuffle<T, kBytes>(a, b, half_groups<kGroup, kGroup / 2>(lanes));
}

}  // namespace amodal2
