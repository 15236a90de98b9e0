// The arithmetic of masked attention: powers of two, products of small matrices, dot products with
// listed rows. All in vectors, see common/simd.h; kBytes is the width of a vector.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/simd.h"

namespace amodal2 {

// A dense tile has this many vectors of queries.
constexpr int kTileVectors = 3;

// Returns 2^x for x of at most 128 and 0 below the smallest normal number. The polynomial is the
// minimax one of degree 5 on [-1/2, 1/2] (relative error 2e-7, found by Remez exchange).
template <int kBytes>
AMODAL2_INLINE typename Vector<float, kBytes>::type power_of_two(
    const typename Vector<float, kBytes>::type& x) {
  typedef typename Vector<float, kBytes>::type V;
  typedef typename Vector<float, kBytes>::Integers I;
  const V rounder = V{} + 12582912.f;  // 1.5 * 2^23: the sum's last bit is worth one
  const V shifted = x + rounder;
  const V rest = x - (shifted - rounder);
  V power = V{} + 1.3276472e-3f;
  power = power * rest + 9.675541e-3f;
  power = power * rest + 5.550713e-2f;
  power = power * rest + 2.402212e-1f;
  power = power * rest + 6.9314694e-1f;
  power = power * rest + 1.0000001f;
  // Unsigned, since the sum of a lane that is not kept may overflow.
  typedef uint32_t Bits __attribute__((vector_size(kBytes), may_alias));
  const Bits exponent = reinterpret_cast<const Bits&>(shifted) << 23;
  const I kept = ~(x < -126.f);
  const Bits bits =
      (reinterpret_cast<const Bits&>(power) + exponent) & reinterpret_cast<const Bits&>(kept);
  return reinterpret_cast<const V&>(bits);
}

template <typename T, int kBytes>
AMODAL2_INLINE typename Vector<T, kBytes>::type exp2_lanes(
    const typename Vector<T, kBytes>::type& x) {
  if constexpr (sizeof(T) == 4) {
    return power_of_two<kBytes>(x);
  } else {
    typename Vector<T, kBytes>::type power;
    for (int lane = 0; lane < Vector<T, kBytes>::kLanes; ++lane) power[lane] = std::exp2(x[lane]);
    return power;
  }
}

template <typename V>
AMODAL2_INLINE V larger(const V& a, const V& b) {
  return a > b ? a : b;
}

template <typename T, int kBytes>
AMODAL2_INLINE bool any_lane(const typename Vector<T, kBytes>::Integers& mask) {
  typename Vector<T, kBytes>::Integer any = 0;
  for (int lane = 0; lane < Vector<T, kBytes>::kLanes; ++lane) any |= mask[lane];
  return any != 0;
}

// Sums the products of kRows rows of `left` and kVectors vectors of columns of `right`:
// out[r, c] (+)= sum over i of left[r * row_step + i * inner_step] right[i * right_step + c].
template <typename T, int kBytes, int kVectors, int kRows, bool kAdd>
AMODAL2_INLINE void multiply_some(const T* left, int64_t row_step, int64_t inner_step,
                                  const T* right, int64_t right_step, T* out, int64_t out_step,
                                  int64_t inner) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  V sums[kRows][kVectors] = {};
  for (int64_t i = 0; i < inner; ++i) {
    V columns[kVectors];
    for (int v = 0; v < kVectors; ++v) columns[v] = load_vector<V>(right + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const T factor = left[r * row_step];
      for (int v = 0; v < kVectors; ++v) sums[r][v] += columns[v] * factor;
    }
    left += inner_step;
    right += right_step;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      T* to = out + r * out_step + v * kLanes;
      if constexpr (kAdd) sums[r][v] += load_vector<V>(to);
      store_vector(to, sums[r][v]);
    }
  }
}

template <typename T, int kBytes, int kVectors, bool kAdd>
AMODAL2_INLINE void multiply_columns(const T* left, int64_t row_step, int64_t inner_step,
                                     const T* right, int64_t right_step, T* out, int64_t out_step,
                                     int64_t rows, int64_t inner) {
  constexpr int kRows = kVectors == 1 ? 8 : 4;  // enough sums to hide the latency, few registers
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) {
    multiply_some<T, kBytes, kVectors, kRows, kAdd>(left + row * row_step, row_step, inner_step,
                                                    right, right_step, out + row * out_step,
                                                    out_step, inner);
  }
  for (; row < rows; ++row) {
    multiply_some<T, kBytes, kVectors, 1, kAdd>(left + row * row_step, row_step, inner_step, right,
                                                right_step, out + row * out_step, out_step, inner);
  }
}

// The same for any number of vectors of columns.
template <typename T, int kBytes, bool kAdd>
AMODAL2_INLINE void multiply(const T* left, int64_t row_step, int64_t inner_step, const T* right,
                             int64_t right_step, T* out, int64_t out_step, int64_t rows,
                             int64_t vectors, int64_t inner) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  while (vectors > 0) {
    const int64_t some = vectors == 4 ? 2 : std::min<int64_t>(vectors, 3);
    switch (some) {
      case 1:
        multiply_columns<T, kBytes, 1, kAdd>(left, row_step, inner_step, right, right_step, out,
                                             out_step, rows, inner);
        break;
      case 2:
        multiply_columns<T, kBytes, 2, kAdd>(left, row_step, inner_step, right, right_step, out,
                                             out_step, rows, inner);
        break;
      default:
        multiply_columns<T, kBytes, 3, kAdd>(left, row_step, inner_step, right, right_step, out,
                                             out_step, rows, inner);
    }
    vectors -= some;
    right += some * kLanes;
    out += some * kLanes;
  }
}

// Multiplies kCount listed rows with `vector` and adds up their lanes as far as a tree of kCount
// leaves goes, see pair_sums. `vector` is kBlocks vectors, or, if kBlocks is 0, numbers at any
// address that make `blocks` vectors.
template <typename T, int kBytes, int kBlocks, int kCount, typename Part>
AMODAL2_INLINE typename Vector<T, kBytes>::type dot_listed(const T* rows, int64_t step,
                                                           const uint16_t* list,
                                                           const Part* vector, int64_t blocks) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  if constexpr (kCount == 1) {
    const T* row = rows + *list * step;
    V sum = {};
    if constexpr (kBlocks > 0) {
      for (int b = 0; b < kBlocks; ++b) sum += load_vector<V>(row + b * kLanes) * vector[b];
    } else {
      for (int64_t at = 0; at < blocks * kLanes; at += kLanes) {
        sum += load_vector<V>(row + at) * load_vector<V>(vector + at);
      }
    }
    return sum;
  } else {
    constexpr int kHalf = kCount / 2;
    return pair_sums<T, kBytes, kCount>(
        dot_listed<T, kBytes, kBlocks, kHalf>(rows, step, list, vector, blocks),
        dot_listed<T, kBytes, kBlocks, kHalf>(rows, step, list + kHalf, vector, blocks));
  }
}

template <typename T, int kBytes, int kBlocks, typename Part>
AMODAL2_INLINE void dot_groups(const T* rows, int64_t step, const uint16_t* list, int64_t count,
                               const Part* vector, T* dots, int64_t blocks) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  for (int64_t i = 0; i < count; i += kLanes) {
    store_vector(dots + i,
                 dot_listed<T, kBytes, kBlocks, kLanes>(rows, step, list + i, vector, blocks));
  }
}

// Writes the dot products of the listed rows with `vector`, up to a whole vector of them.
template <typename T, int kBytes>
AMODAL2_INLINE void dot_all_listed(const T* rows, int64_t step, const uint16_t* list,
                                   int64_t count, const T* vector, T* dots, int64_t blocks) {
  typedef typename Vector<T, kBytes>::type V;
  if (blocks == 4) {
    V fixed[4];
    for (int b = 0; b < 4; ++b) fixed[b] = load_vector<V>(vector + b * Vector<T, kBytes>::kLanes);
    dot_groups<T, kBytes, 4>(rows, step, list, count, fixed, dots, blocks);
  } else {
    dot_groups<T, kBytes, 0>(rows, step, list, count, vector, dots, blocks);
  }
}

// Adds the listed rows times their weights to kVectors vectors of sums.
template <typename T, int kBytes, int kVectors>
AMODAL2_INLINE void add_listed_columns(const T* rows, int64_t step, const uint16_t* list,
                                       const T* weights, int64_t count, T* sums) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  V even[kVectors], odd[kVectors] = {};
  for (int v = 0; v < kVectors; ++v) even[v] = load_vector<V>(sums + v * kLanes);
  int64_t i = 0;
  for (; i + 1 < count; i += 2) {
    const T *first = rows + list[i] * step, *second = rows + list[i + 1] * step;
    for (int v = 0; v < kVectors; ++v) {
      even[v] += load_vector<V>(first + v * kLanes) * weights[i];
      odd[v] += load_vector<V>(second + v * kLanes) * weights[i + 1];
    }
  }
  if (i < count) {
    const T* row = rows + list[i] * step;
    for (int v = 0; v < kVectors; ++v) even[v] += load_vector<V>(row + v * kLanes) * weights[i];
  }
  for (int v = 0; v < kVectors; ++v) store_vector(sums + v * kLanes, V(even[v] + odd[v]));
}

template <typename T, int kBytes>
AMODAL2_INLINE void add_listed(const T* rows, int64_t step, const uint16_t* list, const T* weights,
                               int64_t count, T* sums, int64_t blocks) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  int64_t block = 0;
  for (; block + 4 <= blocks; block += 4) {
    add_listed_columns<T, kBytes, 4>(rows + block * kLanes, step, list, weights, count,
                                     sums + block * kLanes);
  }
  for (; block + 2 <= blocks; block += 2) {
    add_listed_columns<T, kBytes, 2>(rows + block * kLanes, step, list, weights, count,
                                     sums + block * kLanes);
  }
  for (; block < blocks; ++block) {
    add_listed_columns<T, kBytes, 1>(rows + block * kLanes, step, list, weights, count,
                                     sums + block * kLanes);
  }
}

}  // namespace amodal2
