// Where the points of a chunk of pixels lie: which four pixels they are between, and how far.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/simd.h"

namespace amodal2 {

// Pixels of a tile, and its most columns. Wide enough that rows are read and written in long pieces,
// high enough that rows around are read for many rows, and small enough that what is about a tile,
// with its surroundings in one plane, stays in the nearest cache.
constexpr int64_t kTilePixels = 512, kTileColumns = 64;

// Positions of pixels are kept in 32 bits, those of taps up to two rows outside included.
constexpr int64_t kMostPixels = std::numeric_limits<int32_t>::max() / 4;

// Flags of a pixel: bit k is set if tap k (top left, top right, bottom left, bottom right) lies
// inside, the others if the point's x, y move with the flow.
constexpr int kAllTaps = 15, kMovesX = 16, kMovesY = 32;

enum class BlockKind : uint8_t {
  kOutside,  // no tap inside
  kRun,      // all taps inside, the top left ones side by side
  kBreak,    // all taps inside, the top left ones in two runs, none of which leaves the image when
             // it is made as long as the block
  kInside,   // all taps inside
  kMixed,    // anything else, and a block that is not full
};

// A part of an image.
struct Tile {
  int64_t row, column, rows, columns;
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
  // Columns of a tile that is not cut off, rounded up to whole vectors: places between its rows.
  int64_t pitch() const { return std::min((width + 15) / 16 * 16, kTileColumns); }
  int64_t rows() const { return kTilePixels / pitch(); }
  int64_t tiles_across() const { return (width + kTileColumns - 1) / kTileColumns; }
  int64_t tiles() const { return (height + rows() - 1) / rows() * tiles_across(); }

  // Tiles are numbered row by row.
  Tile tile(int64_t number) const {
    const int64_t row = number / tiles_across() * rows();
    const int64_t column = number % tiles_across() * kTileColumns;
    return {row, column, std::min(rows(), height - row), std::min(kTileColumns, width - column)};
  }
};

// The rectangle around the taps of the blocks of a tile that lie inside; empty if it is so large that
// little of it can be needed.
struct Surroundings {
  static constexpr int64_t kMost = 8192;  // pixels
  int64_t first, rows, columns;  // pixel number of its top left one, size

  // Fetches part `part` of `parts` of its rows into the nearest cache. What a processor foresees by
  // itself is the next piece of a row, not the next row of a plane and not the next plane.
  template <int kWrite, typename T>
  AMODAL2_INLINE void fetch(const T* plane, int64_t width, int64_t part, int64_t parts) const {
    for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; ++row) {
      const T* from = plane + first + row * width;
      for (int64_t column = 0; column < columns; column += 64 / sizeof(T)) {
        __builtin_prefetch(from + column, kWrite);
      }
      __builtin_prefetch(from + columns - 1, kWrite);
    }
  }
};

// What is known about the pixels of a tile; row r, column c of it is at r * pitch + c.
template <typename T, int kBytes>
struct Points {
  static constexpr int kLanes = Vector<T, kBytes>::kLanes;

  Points() { std::fill_n(ones, kTilePixels, T(1)); }

  int64_t pitch;
  Surroundings around;
  alignas(64) T x[kTilePixels], y[kTilePixels];  // fractions, from the left and top taps on
  T weight[kTilePixels];
  T shares[4][kTilePixels];  // of the taps, times the weight
  T dots[4][kTilePixels];    // of the values with what is at the taps
  T ones[kTilePixels];
  typename Vector<T, kBytes>::Integer base[kTilePixels];  // top left tap, from the plane's start
  typename Vector<T, kBytes>::Integer flags[kTilePixels];
  BlockKind kinds[kTilePixels / kLanes];
};

// Lanes of the left (kSide 0) or right pixels of pairs in the order of `load_pairs`.
template <int kSide, int... kLane>
constexpr auto pair_sides(Lanes<kLane...>) {
  constexpr int kLanes = sizeof...(kLane);
  return Lanes<(kLane % 4 / 2 * kLanes + kLane / 4 * 4 + kLane % 2 * 2 + kSide)...>();
}

// Pixels whose pairs `load_pairs` reads into its first (kFirst 0) or second (kFirst 2) vector.
template <int kFirst, int... kPair>
constexpr auto pair_pixels(Lanes<kPair...>) {
  return Lanes<(kPair / 2 * 4 + kPair % 2 + kFirst)...>();
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
  typedef typename Vector<T, kBytes>::Integer Integer;
  I low, low_in, high_in, moves;
  V fraction;

  // Tells whether all coordinates lie between two pixels and on no border.
  AMODAL2_INLINE static I is_within(const V& position, int64_t size) {
    return (position > T(0)) & (position < static_cast<T>(size - 1));
  }

  // Splits coordinates for which that is so.
  AMODAL2_INLINE static WarpAxis split_within(const V& position) {
    WarpAxis axis;
    axis.low = __builtin_convertvector(position, I);
    axis.fraction = position - __builtin_convertvector(axis.low, V);
    return axis;
  }

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
      const I last = I{} + static_cast<Integer>(std::max<int64_t>(size - 2, 0));
      axis.low = axis.low < last ? axis.low : last;
    }
    const I extent = I{} + static_cast<Integer>(size);
    axis.low_in = (axis.low >= 0) & (axis.low < extent);
    axis.high_in = (axis.low >= -1) & (axis.low < extent - 1);
    axis.fraction = bounded - __builtin_convertvector(axis.low, V);
    return axis;
  }
};

// The least and the largest top left tap of the blocks that lie inside, lane by lane.
template <typename T, int kBytes>
struct Extent {
  typedef typename Vector<T, kBytes>::Integers I;
  static constexpr int kLanes = Vector<T, kBytes>::kLanes;
  I least_x = I{} + std::numeric_limits<int32_t>::max(), least_y = least_x;
  I most_x = I{} - 1, most_y = most_x;

  AMODAL2_INLINE void add(const I& x, const I& y) {
    least_x = x < least_x ? x : least_x;
    least_y = y < least_y ? y : least_y;
    most_x = x > most_x ? x : most_x;
    most_y = y > most_y ? y : most_y;
  }

  AMODAL2_INLINE Surroundings surroundings(int64_t width) const {
    int64_t left = least_x[0], right = most_x[0], top = least_y[0], bottom = most_y[0];
    for (int lane = 1; lane < kLanes; ++lane) {
      left = std::min<int64_t>(left, least_x[lane]);
      right = std::max<int64_t>(right, most_x[lane]);
      top = std::min<int64_t>(top, least_y[lane]);
      bottom = std::max<int64_t>(bottom, most_y[lane]);
    }
    const int64_t rows = bottom + 2 - top, columns = right + 2 - left;
    if (bottom < 0 || rows * columns > Surroundings::kMost) return {0, 0, 0};
    return {top * width + left, rows, columns};
  }
};

// Loads up to as many numbers as a vector has lanes, and zeros.
template <typename V, typename T>
AMODAL2_INLINE V load_some(const T* from, int64_t count) {
  constexpr int64_t kLanes = sizeof(V) / sizeof(T);
  if (count >= kLanes) return load_vector<V>(from);
  T numbers[kLanes] = {};
  for (int64_t k = 0; k < count; ++k) numbers[k] = from[k];
  return load_vector<V>(numbers);
}

// Tells how the taps of a block that lie inside follow each other, from their top left ones minus the
// number of the lane; `pixels` and `width` are of the image.
template <typename T, int kBytes>
AMODAL2_INLINE BlockKind inside_kind(const typename Vector<T, kBytes>::Integers& ahead,
                                     int64_t pixels, int64_t width) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  const int64_t first = ahead[0], last = ahead[kLanes - 1], end = pixels - width - kLanes;
  if (all_true(ahead == ahead[0])) return BlockKind::kRun;
  return last >= 0 && std::max(first, last) < end &&
          all_true((ahead == ahead[0]) | (ahead == ahead[kLanes - 1]))
      ? BlockKind::kBreak
      : BlockKind::kInside;
}

// Describes a block of `count` pixels or, if that is less, of as many as a vector has lanes, whose
// points are (x, y); tells which of them are finite. A pixel whose point is not has no tap inside.
template <typename T, int kBytes>
AMODAL2_INLINE typename Vector<T, kBytes>::Integers describe_block(
    const WarpGeometry<T>& geometry, const typename Vector<T, kBytes>::type& x,
    const typename Vector<T, kBytes>::type& y, const typename Vector<T, kBytes>::type& weight,
    int64_t count, int64_t start, Points<T, kBytes>& points, Extent<T, kBytes>& extent) {
  typedef typename Vector<T, kBytes>::type V;
  typedef typename Vector<T, kBytes>::Integers I;
  typedef WarpAxis<T, kBytes> Axis;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  const int64_t height = geometry.height, width = geometry.width;
  Axis across, down;
  I finite = I{} - 1, flags = I{} + (kAllTaps | kMovesX | kMovesY);
  bool inside = count >= kLanes;
  if (inside && all_true(Axis::is_within(x, width) & Axis::is_within(y, height))) {
    across = Axis::split_within(x);
    down = Axis::split_within(y);
  } else {
    across = Axis::split(x, width, geometry.border);
    down = Axis::split(y, height, geometry.border);
    finite = (x - x == 0) & (y - y == 0);
    flags = (across.low_in & down.low_in & 1) | (across.high_in & down.low_in & 2) |
        (across.low_in & down.high_in & 4) | (across.high_in & down.high_in & 8);
    inside = inside && all_true((flags & finite) == kAllTaps);
    flags = (flags | (across.moves & kMovesX) | (down.moves & kMovesY)) & finite;
  }
  const I base = down.low * static_cast<typename Vector<T, kBytes>::Integer>(width) + across.low;
  const V bottom = down.fraction * weight, top = weight - bottom;
  const V bottom_right = across.fraction * bottom, top_right = across.fraction * top;
  store_vector(points.shares[0] + start, top - top_right);
  store_vector(points.shares[1] + start, top_right);
  store_vector(points.shares[2] + start, bottom - bottom_right);
  store_vector(points.shares[3] + start, bottom_right);
  store_vector(points.weight + start, weight);
  store_vector(points.x + start, across.fraction);
  store_vector(points.y + start, down.fraction);
  store_vector(points.base + start, base);
  store_vector(points.flags + start, flags);
  BlockKind kind = BlockKind::kMixed;
  if (inside) {
    extent.add(across.low, down.low);
    const I lanes = lane_numbers<I>(std::make_integer_sequence<int, kLanes>());
    kind = inside_kind<T, kBytes>(base - lanes, geometry.pixels(), width);
  } else if (count >= kLanes && all_true((flags & kAllTaps) == 0)) {
    kind = BlockKind::kOutside;
  }
  points.kinds[start / kLanes] = kind;
  return finite;
}

// Describes the pixels of a tile; tells whether their flow is finite.
template <typename T, int kBytes>
AMODAL2_INLINE bool find_points(const WarpGeometry<T>& geometry, int64_t image, const Tile& tile,
                                Points<T, kBytes>& points) {
  typedef typename Vector<T, kBytes>::type V;
  typedef typename Vector<T, kBytes>::Integers I;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  const int64_t pixels = geometry.pixels();
  points.pitch = geometry.pitch();
  const I lanes = lane_numbers<I>(std::make_integer_sequence<int, kLanes>());
  I finite = I{} - 1;
  Extent<T, kBytes> extent;
  for (int64_t row = 0; row < tile.rows; ++row) {
    const int64_t first = (tile.row + row) * geometry.width + tile.column;
    const T* flow = geometry.flow + image * 2 * pixels + first;
    const T* weights = geometry.weight ? geometry.weight + image * pixels + first : nullptr;
    for (int64_t column = 0; column < tile.columns; column += kLanes) {
      const int64_t count = tile.columns - column, start = row * points.pitch + column;
      const I columns = lanes + static_cast<typename Vector<T, kBytes>::Integer>(
          tile.column + column);
      const V x = __builtin_convertvector(columns, V) + load_some<V>(flow + column, count);
      const V y = static_cast<T>(tile.row + row) + load_some<V>(flow + pixels + column, count);
      const V weight = weights ? load_some<V>(weights + column, count) : V{} + T(1);
      finite &= describe_block<T, kBytes>(geometry, x + geometry.offset_x, y + geometry.offset_y,
                                          weight, count, start, points, extent);
    }
  }
  points.around = extent.surroundings(geometry.width);
  return all_true(finite);
}

}  // namespace amodal2
