// Where the points of a chunk of pixels lie: which four pixels they are between, and how far.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/simd.h"

namespace amodal2 {

// Pixels of a chunk: enough that a plane is read and written in long pieces, few enough that all
// about them stays in the nearest cache.
constexpr int64_t kChunk = 256;

// Positions of pixels are kept in 32 bits, those of taps up to two rows outside included.
constexpr int64_t kMostPixels = std::numeric_limits<int32_t>::max() / 4;

// Flags of a pixel: bit k is set if tap k (top left, top right, bottom left, bottom right) lies
// inside, the others if the point's x, y move with the flow.
constexpr int kAllTaps = 15, kMovesX = 16, kMovesY = 32;

enum class BlockKind : uint8_t {
  kOutside,  // no tap inside
  kRun,      // all taps inside, the top left ones side by side
  kInside,   // all taps inside
  kMixed,    // anything else, and a block that is not full
};

// The images and how their pixels are connected with points.
template <typename T>
struct WarpGeometry {
  int64_t height, width;
  bool border;
  T offset_x, offset_y;
  const T* flow;    // [N, 2, H, W]
  const T* weight;  // [N, 1, H, W], null for 1

  int64_t pixels() const { return height * width; }
  int64_t chunks() const { return (pixels() + kChunk - 1) / kChunk; }
};

template <typename T, int kBytes>
struct Chunk {
  static constexpr int kLanes = Vector<T, kBytes>::kLanes;

  Chunk() { std::fill_n(ones, kChunk, T(1)); }

  int64_t count;  // pixels
  alignas(64) T x[kChunk], y[kChunk];  // fractions, from the left and top taps on
  T weight[kChunk];
  T shares[4][kChunk];  // of the taps, times the weight
  T dots[4][kChunk];    // of the values with what is at the taps
  T ones[kChunk];
  typename Vector<T, kBytes>::Integer base[kChunk];  // top left tap, from the plane's start
  typename Vector<T, kBytes>::Integer flags[kChunk];
  BlockKind kinds[kChunk / kLanes];
};

// Lanes of the left (kSide 0) or right pixels of pairs in the order of `load_pairs`.
template <int kSide, int... kLane>
constexpr auto pair_sides(Lanes<kLane...>) {
  constexpr int kLanes = sizeof...(kLane);
  return Lanes<(kLane % 4 / 2 * kLanes + kLane / 4 * 4 + kLane % 2 * 2 + kSide)...>();
}

// The last lane of the first vector, then all but the last of the second.
template <int... kLane>
constexpr auto shifted_lanes(Lanes<kLane...>) {
  return Lanes<(static_cast<int>(sizeof...(kLane)) - 1 + kLane)...>();
}

// The numbers 0, 1, ...
template <typename I, int... kLane>
AMODAL2_INLINE I lane_numbers(Lanes<kLane...>) {
  return I{kLane...};
}

// Tells whether all lanes of a comparison are true.
template <typename I>
AMODAL2_INLINE bool all_true(const I& mask) {
  int64_t parts[sizeof(I) / sizeof(int64_t)];
  std::memcpy(parts, &mask, sizeof(I));
  int64_t all = -1;
  for (int64_t part : parts) all &= part;
  return all == -1;
}

// One axis of a block of points.
template <typename T, int kBytes>
struct WarpAxis {
  typedef typename Vector<T, kBytes>::type V;
  typedef typename Vector<T, kBytes>::Integers I;
  I low, low_in, high_in, moves;
  V fraction;

  // Splits coordinates on an axis of `size` pixels. Bounded before the conversion so that this is
  // defined; both comparisons are false for NaN.
  AMODAL2_INLINE static WarpAxis split(const V& position, int64_t size, bool border) {
    WarpAxis axis;
    const V least = V{} + (border ? T(0) : T(-2));
    const V most = V{} + static_cast<T>(border ? size - 1 : size + 1);
    const V above = position > least ? position : least;
    const V bounded = above < most ? above : most;
    axis.low = __builtin_convertvector(bounded, I);                  // rounds towards zero,
    axis.low += __builtin_convertvector(axis.low, V) > bounded;      // a true comparison is -1
    axis.moves = I{} - 1;
    if (border) {
      axis.moves = (position > least) & (position < most);
      const I last = I{} + static_cast<typename Vector<T, kBytes>::Integer>(
          std::max<int64_t>(size - 2, 0));
      axis.low = axis.low < last ? axis.low : last;
    }
    const I extent = I{} + static_cast<typename Vector<T, kBytes>::Integer>(size);
    axis.low_in = (axis.low >= 0) & (axis.low < extent);
    axis.high_in = (axis.low >= -1) & (axis.low < extent - 1);
    axis.fraction = bounded - __builtin_convertvector(axis.low, V);
    return axis;
  }
};

// Writes the points p + flow[p] + offset of a chunk to x and y, row by row.
template <typename T, int kBytes>
AMODAL2_INLINE void fill_points(const WarpGeometry<T>& geometry, int64_t image, int64_t first,
                                Chunk<T, kBytes>& chunk) {
  const T* flow = geometry.flow + image * 2 * geometry.pixels() + first;
  int64_t row = first / geometry.width, column = first % geometry.width;
  for (int64_t start = 0; start < chunk.count; ++row, column = 0) {
    const int length =
        static_cast<int>(std::min(geometry.width - column, chunk.count - start));
    const T *flow_x = flow + start, *flow_y = flow_x + geometry.pixels();
    T *x = chunk.x + start, *y = chunk.y + start;
    const int left = static_cast<int>(column);
    const T top = static_cast<T>(row);
    for (int k = 0; k < length; ++k) {
      x[k] = static_cast<T>(left + k) + flow_x[k] + geometry.offset_x;
      y[k] = top + flow_y[k] + geometry.offset_y;
    }
    start += length;
  }
}

// Describes up to kChunk pixels of an image from pixel `first` on; tells whether their flow is
// finite. A pixel whose flow is not has no tap inside.
template <typename T, int kBytes>
AMODAL2_INLINE bool fill_chunk(const WarpGeometry<T>& geometry, int64_t image, int64_t first,
                               Chunk<T, kBytes>& chunk) {
  typedef typename Vector<T, kBytes>::type V;
  typedef typename Vector<T, kBytes>::Integers I;
  typedef typename Vector<T, kBytes>::Integer Integer;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  chunk.count = std::min(kChunk, geometry.pixels() - first);
  fill_points<T, kBytes>(geometry, image, first, chunk);
  const int64_t full = (chunk.count + kLanes - 1) / kLanes * kLanes;
  std::fill(chunk.x + chunk.count, chunk.x + full, T(0));
  std::fill(chunk.y + chunk.count, chunk.y + full, T(0));
  if (geometry.weight) {
    std::memcpy(chunk.weight, geometry.weight + image * geometry.pixels() + first,
                sizeof(T) * chunk.count);
    std::fill(chunk.weight + chunk.count, chunk.weight + full, T(0));
  } else {
    std::memcpy(chunk.weight, chunk.ones, sizeof(chunk.ones));
  }
  const I numbers = lane_numbers<I>(std::make_integer_sequence<int, kLanes>());
  I all_finite = I{} - 1;
  for (int64_t start = 0; start < full; start += kLanes) {
    const V x = load_vector<V>(chunk.x + start), y = load_vector<V>(chunk.y + start);
    const auto across = WarpAxis<T, kBytes>::split(x, geometry.width, geometry.border);
    const auto down = WarpAxis<T, kBytes>::split(y, geometry.height, geometry.border);
    const I finite = (x - x == 0) & (y - y == 0);
    all_finite &= finite;
    const I inside = (across.low_in & down.low_in & 1) | (across.high_in & down.low_in & 2) |
        (across.low_in & down.high_in & 4) | (across.high_in & down.high_in & 8);
    const I flags = ((inside | (across.moves & kMovesX) | (down.moves & kMovesY)) & finite);
    const I base = down.low * static_cast<Integer>(geometry.width) + across.low;
    const V weight = load_vector<V>(chunk.weight + start);
    const V bottom = down.fraction * weight, top = (T(1) - down.fraction) * weight;
    store_vector(chunk.shares[0] + start, (T(1) - across.fraction) * top);
    store_vector(chunk.shares[1] + start, across.fraction * top);
    store_vector(chunk.shares[2] + start, (T(1) - across.fraction) * bottom);
    store_vector(chunk.shares[3] + start, across.fraction * bottom);
    store_vector(chunk.x + start, across.fraction);
    store_vector(chunk.y + start, down.fraction);
    store_vector(chunk.base + start, base);
    store_vector(chunk.flags + start, flags);
    const I taps = flags & kAllTaps;
    const I ahead = base - numbers;
    chunk.kinds[start / kLanes] = start + kLanes > chunk.count ? BlockKind::kMixed
        : all_true(taps == 0)                                  ? BlockKind::kOutside
        : !all_true(taps == kAllTaps)                          ? BlockKind::kMixed
        : all_true(ahead == ahead[0])                          ? BlockKind::kRun
                                                               : BlockKind::kInside;
  }
  return all_true(all_finite);
}

}  // namespace amodal2
