// The loops of warping and splatting on the CPU: a gather and a scatter, each in the forward pass of
// one and the backward pass of the other.
//
// Pixels are worked on in chunks, in the order of memory: first where each one's point lies, once,
// then plane by plane. A block is as many pixels of a chunk as a vector has lanes. Where the flow
// is smooth, the points of a block lie side by side in one row, so that whole vectors are read and
// added; elsewhere pixels are read in pairs, and added one by one.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "common/simd.h"
#include "mask_warp/mask_warp_chunk.h"

namespace amodal2 {

// Everything one call needs; pointers are to contiguous tensors of T. The field is sampled or added
// to at the points [N, planes, H, W], the values belong to the pixels [N, channels, H, W]; a plane
// beyond the channels takes the value 1 everywhere.
template <typename T>
struct WarpProblem {
  WarpGeometry<T> geometry;
  int64_t images, channels, planes;
  const T* field;
  const T* values;
  T* sampled;      // [N, channels, H, W], times the weight; null if not wanted
  T* grad_flow;    // [N, 2, H, W], null if not wanted
  T* grad_weight;  // [N, 1, H, W], null if not wanted
  T* sums;         // [N, planes, H, W]

  const T* field_plane(int64_t image, int64_t plane) const {
    return field + (image * planes + plane) * geometry.pixels();
  }
  int64_t value_plane(int64_t image, int64_t channel) const {
    return (image * channels + channel) * geometry.pixels();
  }
};

// Reads the pixels at `base` and right of it, for every lane.
template <typename T, int kBytes>
AMODAL2_INLINE void load_pairs(const T* field, const typename Vector<T, kBytes>::Integer* base,
                               typename Vector<T, kBytes>::type& left,
                               typename Vector<T, kBytes>::type& right) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  if constexpr (sizeof(T) == 4) {
    typedef typename Vector<double, kBytes>::type Pairs;
    // In an order of pixels from which shuffles within 16 bytes, which are cheap, pick both sides.
    Pairs first, second;
    for (int pair = 0; pair < kLanes / 2; ++pair) {
      const int pixel = pair / 2 * 4 + pair % 2;
      double both;
      std::memcpy(&both, field + base[pixel], sizeof(both));
      first[pair] = both;
      std::memcpy(&both, field + base[pixel + 2], sizeof(both));
      second[pair] = both;
    }
    typedef typename Vector<T, kBytes>::type V;
    V a, b;
    std::memcpy(&a, &first, sizeof(a));
    std::memcpy(&b, &second, sizeof(b));
    constexpr auto kAll = std::make_integer_sequence<int, kLanes>();
    left = shuffle<T, kBytes>(a, b, pair_sides<0>(kAll));
    right = shuffle<T, kBytes>(a, b, pair_sides<1>(kAll));
  } else {
    T pairs[2][kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      pairs[0][lane] = field[base[lane]];
      pairs[1][lane] = field[base[lane] + 1];
    }
    std::memcpy(&left, pairs[0], sizeof(left));
    std::memcpy(&right, pairs[1], sizeof(right));
  }
}

// What is at the four taps of one pixel, 0 outside.
template <typename T>
struct Corners {
  T at[4];

  template <int kBytes>
  AMODAL2_INLINE static Corners read(const Chunk<T, kBytes>& chunk, int64_t k, const T* field,
                                     int64_t width) {
    Corners corners{};
    for (int tap = 0; tap < 4; ++tap) {
      if (chunk.flags[k] >> tap & 1) {
        corners.at[tap] = field[chunk.base[k] + tap / 2 * width + tap % 2];
      }
    }
    return corners;
  }
};

// Samples one plane at a chunk's points. Writes the weighted samples if kSample; adds the values
// times what is at each tap to the chunk's dot products if kDots.
template <typename T, int kBytes, bool kSample, bool kDots>
AMODAL2_INLINE void gather_plane(Chunk<T, kBytes>& chunk, const T* field, int64_t width,
                                 const T* values, T* sampled) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  for (int64_t start = 0; start < chunk.count; start += kLanes) {
    const BlockKind kind = chunk.kinds[start / kLanes];
    if (kind == BlockKind::kOutside) {
      if constexpr (kSample) store_vector(sampled + start, V{});
      continue;
    }
    if (kind == BlockKind::kMixed) {
      for (int64_t k = start; k < std::min(start + kLanes, chunk.count); ++k) {
        const auto corners = Corners<T>::template read<kBytes>(chunk, k, field, width);
        T sum = 0;
        for (int tap = 0; tap < 4; ++tap) {
          if constexpr (kSample) sum += chunk.shares[tap][k] * corners.at[tap];
          if constexpr (kDots) chunk.dots[tap][k] += values[k] * corners.at[tap];
        }
        if constexpr (kSample) sampled[k] = sum;
      }
      continue;
    }
    V taps[4];
    if (kind == BlockKind::kRun) {
      const T* from = field + chunk.base[start];
      taps[0] = load_vector<V>(from);
      taps[1] = load_vector<V>(from + 1);
      taps[2] = load_vector<V>(from + width);
      taps[3] = load_vector<V>(from + width + 1);
    } else {
      load_pairs<T, kBytes>(field, chunk.base + start, taps[0], taps[1]);
      load_pairs<T, kBytes>(field + width, chunk.base + start, taps[2], taps[3]);
    }
    if constexpr (kSample) {
      V sum = taps[0] * load_vector<V>(chunk.shares[0] + start);
      for (int tap = 1; tap < 4; ++tap) {
        sum += taps[tap] * load_vector<V>(chunk.shares[tap] + start);
      }
      store_vector(sampled + start, sum);
    }
    if constexpr (kDots) {
      const V value = load_vector<V>(values + start);
      for (int tap = 0; tap < 4; ++tap) {
        T* dots = chunk.dots[tap] + start;
        store_vector(dots, load_vector<V>(dots) + value * taps[tap]);
      }
    }
  }
}

// Turns the dot products of a chunk into the gradients of flow and weight.
template <typename T, int kBytes>
AMODAL2_INLINE void store_gradients(const WarpProblem<T>& p, int64_t image, int64_t first,
                                    const Chunk<T, kBytes>& chunk) {
  const int64_t pixels = p.geometry.pixels();
  for (int64_t k = 0; k < chunk.count; ++k) {
    const T x = chunk.x[k], y = chunk.y[k];
    const T top_left = chunk.dots[0][k], bottom_left = chunk.dots[2][k];
    const T top_step = chunk.dots[1][k] - top_left, bottom_step = chunk.dots[3][k] - bottom_left;
    const T top = top_left + x * top_step, bottom = bottom_left + x * bottom_step;
    if (p.grad_flow) {
      T* grad = p.grad_flow + image * 2 * pixels + first + k;
      const T by_x = (top_step + y * (bottom_step - top_step)) * chunk.weight[k];
      const T by_y = (bottom - top) * chunk.weight[k];
      grad[0] = chunk.flags[k] & kMovesX ? by_x : T(0);
      grad[pixels] = chunk.flags[k] & kMovesY ? by_y : T(0);
    }
    if (p.grad_weight) p.grad_weight[image * pixels + first + k] = top + y * (bottom - top);
  }
}

// Works through chunks of the batch, from `begin` to `end`; tells whether their flow is finite.
template <typename T, int kBytes, bool kSample, bool kDots>
AMODAL2_INLINE bool gather_chunks(const WarpProblem<T>& p, int64_t begin, int64_t end) {
  const int64_t chunks = p.geometry.chunks(), width = p.geometry.width;
  Chunk<T, kBytes> chunk;
  bool finite = true;
  for (int64_t index = begin; index < end; ++index) {
    const int64_t image = index / chunks, first = index % chunks * kChunk;
    finite &= fill_chunk<T, kBytes>(p.geometry, image, first, chunk);
    if constexpr (kDots) std::memset(chunk.dots, 0, sizeof(chunk.dots));
    for (int64_t plane = 0; plane < p.planes; ++plane) {
      const T* field = p.field_plane(image, plane);
      const bool ones = plane >= p.channels;
      const int64_t own = p.value_plane(image, plane) + first;
      const T* values = !kDots ? nullptr : ones ? chunk.ones : p.values + own;
      if (kSample && !ones) {
        gather_plane<T, kBytes, kSample, kDots>(chunk, field, width, values, p.sampled + own);
      } else if (kDots) {
        gather_plane<T, kBytes, false, kDots>(chunk, field, width, values, nullptr);
      }
    }
    if constexpr (kDots) store_gradients<T, kBytes>(p, image, first, chunk);
  }
  return finite;
}

// Tells whether the block after a run is a run that begins where it ends. A run of one block is not
// worth a whole vector: a processor waits when it reads as a vector what it has just written number
// by number.
template <typename T, int kBytes>
AMODAL2_INLINE bool run_goes_on(const Chunk<T, kBytes>& chunk, int64_t start) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  const int64_t next = start + kLanes;
  return next < chunk.count && chunk.kinds[next / kLanes] == BlockKind::kRun &&
      chunk.base[next] == chunk.base[start] + kLanes;
}

// Adds to one plane at a chunk's points.
template <typename T, int kBytes>
AMODAL2_INLINE void scatter_plane(const Chunk<T, kBytes>& chunk, const T* values, int64_t width,
                                  T* sums) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>();
  // The right taps of the run so far; the last lane is still to be added, before `open`.
  V right[2] = {};
  T* open = nullptr;
  const auto close = [&] {
    if (!open) return;
    open[0] += right[0][kLanes - 1];
    open[width] += right[1][kLanes - 1];
    open = nullptr;
  };
  for (int64_t start = 0; start < chunk.count; start += kLanes) {
    const BlockKind kind = chunk.kinds[start / kLanes];
    T* const to = sums + chunk.base[start];
    if (kind == BlockKind::kRun && (to == open || run_goes_on(chunk, start))) {
      if (to != open) {
        close();
        right[0] = right[1] = V{};
      }
      const V value = load_vector<V>(values + start);
      for (int row = 0; row < 2; ++row) {
        const V left = value * load_vector<V>(chunk.shares[2 * row] + start);
        const V next = value * load_vector<V>(chunk.shares[2 * row + 1] + start);
        T* at = to + row * width;
        const V shifted = shuffle<T, kBytes>(right[row], next, shifted_lanes(kAll));
        store_vector(at, load_vector<V>(at) + shifted + left);
        right[row] = next;
      }
      open = to + kLanes;
      continue;
    }
    close();
    if (kind == BlockKind::kOutside) continue;
    if (kind == BlockKind::kMixed) {
      for (int64_t k = start; k < std::min(start + kLanes, chunk.count); ++k) {
        for (int tap = 0; tap < 4; ++tap) {
          if (chunk.flags[k] >> tap & 1) {
            sums[chunk.base[k] + tap / 2 * width + tap % 2] += chunk.shares[tap][k] * values[k];
          }
        }
      }
      continue;
    }
    const V value = load_vector<V>(values + start);
    T parts[4][kLanes];
    for (int tap = 0; tap < 4; ++tap) {
      store_vector(parts[tap], value * load_vector<V>(chunk.shares[tap] + start));
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      T* at = sums + chunk.base[start + lane];
      at[0] += parts[0][lane];
      at[1] += parts[1][lane];
      at[width] += parts[2][lane];
      at[width + 1] += parts[3][lane];
    }
  }
  close();
}

// Works through planes `begin` to `end` of an image; tells whether its flow is finite.
template <typename T, int kBytes>
AMODAL2_INLINE bool scatter_planes(const WarpProblem<T>& p, int64_t image, int64_t begin,
                                   int64_t end) {
  const int64_t pixels = p.geometry.pixels(), width = p.geometry.width;
  Chunk<T, kBytes> chunk;
  bool finite = true;
  for (int64_t first = 0; first < pixels; first += kChunk) {
    finite &= fill_chunk<T, kBytes>(p.geometry, image, first, chunk);
    for (int64_t plane = begin; plane < end; ++plane) {
      const T* values =
          plane < p.channels ? p.values + p.value_plane(image, plane) + first : chunk.ones;
      scatter_plane<T, kBytes>(chunk, values, width, p.sums + (image * p.planes + plane) * pixels);
    }
  }
  return finite;
}

}  // namespace amodal2
