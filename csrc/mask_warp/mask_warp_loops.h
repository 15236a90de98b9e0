// The loops of warping and splatting on the CPU: a gather and a scatter, each in the forward pass of
// one and the backward pass of the other.
//
// Pixels are worked on in tiles: first where each one's point lies, once, then plane by plane. A
// block is as many pixels of a tile's row as a vector has lanes. Where the flow is smooth, the points
// of a block lie side by side in one row or in two, so that whole vectors are read and added;
// elsewhere pixels are read in pairs, and added one by one.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "common/pages.h"
#include "common/simd.h"
#include "mask_warp/mask_warp_points.h"

namespace amodal2 {

// Everything one call needs; pointers are to contiguous tensors of T. The field is sampled and the
// sums are added to at the points, the values belong to the pixels, [N, channels, H, W] all of them.
// With coverage there is one more plane, [N, 1, H, W], in which the value is 1 everywhere.
template <typename T>
struct WarpProblem {
  WarpGeometry<T> geometry;
  int64_t images, channels, planes;
  const T* field;
  const T* field_covered;
  const T* values;
  T* sampled;      // [N, channels, H, W], times the weight; null if not wanted
  T* grad_flow;    // [N, 2, H, W], null if not wanted
  T* grad_weight;  // [N, 1, H, W], null if not wanted
  T* sums;
  T* covered;

  const T* field_plane(int64_t image, int64_t plane) const {
    return plane < channels ? field + value_plane(image, plane)
                            : field_covered + image * geometry.pixels();
  }
  T* sums_plane(int64_t image, int64_t plane) const {
    return plane < channels ? sums + value_plane(image, plane)
                            : covered + image * geometry.pixels();
  }
  int64_t value_plane(int64_t image, int64_t channel) const {
    return (image * channels + channel) * geometry.pixels();
  }
};

// Reads as many pairs of numbers as fit a vector, pair k from from[base[kPixel of k]] on.
template <typename T, int kBytes, int... kPixel>
AMODAL2_INLINE typename Vector<T, kBytes>::type gather_pairs(
    const T* from, const typename Vector<T, kBytes>::Integer* base, Lanes<kPixel...>) {
  static_assert(2 * sizeof(T) == sizeof(double), "a pair is moved as one double");
  const auto pair = [&](int pixel) {
    double both;
    std::memcpy(&both, from + base[pixel], sizeof(both));
    return both;
  };
  typedef typename Vector<double, kBytes>::type Pairs;
  const Pairs pairs = {pair(kPixel)...};
  typename Vector<T, kBytes>::type numbers;
  std::memcpy(&numbers, &pairs, sizeof(numbers));
  return numbers;
}

// Reads the pixels at `base` and right of it, for every lane.
template <typename T, int kBytes>
AMODAL2_INLINE void load_pairs(const T* field, const typename Vector<T, kBytes>::Integer* base,
                               typename Vector<T, kBytes>::type& left,
                               typename Vector<T, kBytes>::type& right) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  if constexpr (sizeof(T) == 4) {
    // In an order of pixels from which shuffles within 16 bytes, which are cheap, pick both sides.
    constexpr auto kPairs = std::make_integer_sequence<int, kLanes / 2>();
    const auto a = gather_pairs<T, kBytes>(field, base, pair_pixels<0>(kPairs));
    const auto b = gather_pairs<T, kBytes>(field, base, pair_pixels<2>(kPairs));
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

// Which lanes of a block of kind kBreak belong to the run of its first pixel.
template <typename T, int kBytes>
AMODAL2_INLINE typename Vector<T, kBytes>::Integers in_first_run(
    const typename Vector<T, kBytes>::Integer* base) {
  typedef typename Vector<T, kBytes>::Integers I;
  constexpr auto kAll = std::make_integer_sequence<int, Vector<T, kBytes>::kLanes>();
  return load_vector<I>(base) - lane_numbers<I>(kAll) == base[0];
}

// What is at the four taps of one pixel, 0 outside.
template <typename T>
struct Corners {
  T at[4];

  template <int kBytes>
  AMODAL2_INLINE static Corners read(const Points<T, kBytes>& points, int64_t k, const T* field,
                                     int64_t width) {
    Corners corners{};
    for (int tap = 0; tap < 4; ++tap) {
      if (points.flags[k] >> tap & 1) {
        corners.at[tap] = field[points.base[k] + tap / 2 * width + tap % 2];
      }
    }
    return corners;
  }
};

// The four taps of a block that lies inside.
template <typename T, int kBytes>
AMODAL2_INLINE void load_taps(const T* field, int64_t width,
                              typename Vector<T, kBytes>::type (&taps)[4]) {
  typedef typename Vector<T, kBytes>::type V;
  taps[0] = load_vector<V>(field);
  taps[1] = load_vector<V>(field + 1);
  taps[2] = load_vector<V>(field + width);
  taps[3] = load_vector<V>(field + width + 1);
}

template <typename T, int kBytes>
AMODAL2_INLINE void load_taps(const Points<T, kBytes>& points, int64_t start, const T* field,
                              int64_t width, typename Vector<T, kBytes>::type (&taps)[4]) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  const BlockKind kind = points.kinds[start / kLanes];
  const auto* base = points.base + start;
  if (kind == BlockKind::kInside) {
    load_pairs<T, kBytes>(field, base, taps[0], taps[1]);
    load_pairs<T, kBytes>(field + width, base, taps[2], taps[3]);
    return;
  }
  load_taps<T, kBytes>(field + base[0], width, taps);
  if (kind == BlockKind::kBreak) {
    typename Vector<T, kBytes>::type others[4];
    load_taps<T, kBytes>(field + base[kLanes - 1] - (kLanes - 1), width, others);
    const auto first = in_first_run<T, kBytes>(base);
    for (int tap = 0; tap < 4; ++tap) taps[tap] = first ? taps[tap] : others[tap];
  }
}

// Samples one plane at some pixels in a row of a tile, from number `start` on. Writes the weighted
// samples if kSample; adds the values times what is at each tap to the dot products if kDots.
template <typename T, int kBytes, bool kSample, bool kDots>
AMODAL2_INLINE void gather_row(Points<T, kBytes>& points, int64_t start, int64_t end,
                               const T* field, int64_t width, const T* values, T* sampled) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  for (; start < end; start += kLanes, values += kDots * kLanes, sampled += kSample * kLanes) {
    const BlockKind kind = points.kinds[start / kLanes];
    if (kind == BlockKind::kOutside) {
      if constexpr (kSample) store_vector(sampled, V{});
      continue;
    }
    if (kind == BlockKind::kMixed) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes, end - start));
      for (int lane = 0; lane < count; ++lane) {
        const int64_t k = start + lane;
        const auto corners = Corners<T>::template read<kBytes>(points, k, field, width);
        T sum = 0;
        for (int tap = 0; tap < 4; ++tap) {
          if constexpr (kSample) sum += points.shares[tap][k] * corners.at[tap];
          if constexpr (kDots) points.dots[tap][k] += values[lane] * corners.at[tap];
        }
        if constexpr (kSample) sampled[lane] = sum;
      }
      continue;
    }
    V taps[4];
    load_taps<T, kBytes>(points, start, field, width, taps);
    if constexpr (kSample) {
      V sum = taps[0] * load_vector<V>(points.shares[0] + start);
      for (int tap = 1; tap < 4; ++tap) {
        sum += taps[tap] * load_vector<V>(points.shares[tap] + start);
      }
      store_vector(sampled, sum);
    }
    if constexpr (kDots) {
      const V value = load_vector<V>(values);
      for (int tap = 0; tap < 4; ++tap) {
        T* dots = points.dots[tap] + start;
        store_vector(dots, load_vector<V>(dots) + value * taps[tap]);
      }
    }
  }
}

// The same for a whole tile; `values` and `sampled` are its plane's. Fetches what is to be read of the
// next plane.
template <typename T, int kBytes, bool kSample, bool kDots>
AMODAL2_INLINE void gather_plane(Points<T, kBytes>& points, const Tile& tile, const T* field,
                                 int64_t width, const T* next, const T* values, T* sampled) {
  const bool ones = values == points.ones;  // they belong to every row
  for (int64_t row = 0; row < tile.rows; ++row) {
    const int64_t start = row * points.pitch;
    const int64_t own = (tile.row + row) * width + tile.column;
    points.around.template fetch<0>(next, width, row, tile.rows);
    gather_row<T, kBytes, kSample, kDots>(points, start, start + tile.columns, field, width,
                                          kDots && !ones ? values + own : values,
                                          kSample ? sampled + own : sampled);
  }
}

// Turns the dot products of a tile into the gradients of flow and weight.
template <typename T, int kBytes>
AMODAL2_INLINE void store_gradients(const WarpProblem<T>& p, int64_t image, const Tile& tile,
                                    const Points<T, kBytes>& points) {
  const int64_t pixels = p.geometry.pixels();
  for (int64_t row = 0; row < tile.rows; ++row) {
    const int64_t first = (tile.row + row) * p.geometry.width + tile.column;
    for (int64_t column = 0; column < tile.columns; ++column) {
      const int64_t k = row * points.pitch + column;
      const T x = points.x[k], y = points.y[k];
      const T top_left = points.dots[0][k], bottom_left = points.dots[2][k];
      const T top_step = points.dots[1][k] - top_left;
      const T bottom_step = points.dots[3][k] - bottom_left;
      const T top = top_left + x * top_step, bottom = bottom_left + x * bottom_step;
      if (p.grad_flow) {
        T* grad = p.grad_flow + image * 2 * pixels + first + column;
        const T by_x = (top_step + y * (bottom_step - top_step)) * points.weight[k];
        const T by_y = (bottom - top) * points.weight[k];
        grad[0] = points.flags[k] & kMovesX ? by_x : T(0);
        grad[pixels] = points.flags[k] & kMovesY ? by_y : T(0);
      }
      if (p.grad_weight) {
        p.grad_weight[image * pixels + first + column] = top + y * (bottom - top);
      }
    }
  }
}

// Has the pages of a large output provided, in all planes of an image, for the tiles beside a tile.
template <typename T>
void provide_rows(const WarpProblem<T>& p, int64_t image, const Tile& tile) {
  const int64_t pixels = p.geometry.pixels(), width = p.geometry.width;
  if (p.images * p.channels * pixels * static_cast<int64_t>(sizeof(T)) < kNewPagesBytes) return;
  for (int64_t channel = 0; channel < p.channels; ++channel) {
    T* first = p.sampled + p.value_plane(image, channel) + tile.row * width;
    provide_pages(first, sizeof(T) * tile.rows * width);
  }
}

// Works through tiles of the batch, from `begin` to `end`; tells whether their flow is finite.
template <typename T, int kBytes, bool kSample, bool kDots>
AMODAL2_INLINE bool gather_tiles(const WarpProblem<T>& p, int64_t begin, int64_t end) {
  const int64_t tiles = p.geometry.tiles(), width = p.geometry.width;
  Points<T, kBytes> points;
  bool finite = true;
  for (int64_t index = begin; index < end; ++index) {
    const int64_t image = index / tiles;
    const Tile tile = p.geometry.tile(index % tiles);
    finite &= find_points<T, kBytes>(p.geometry, image, tile, points);
    if (kSample && (tile.column == 0 || index == begin)) provide_rows(p, image, tile);
    if constexpr (kDots) std::memset(points.dots, 0, sizeof(points.dots));
    for (int64_t plane = 0; plane < p.planes; ++plane) {
      const T* field = p.field_plane(image, plane);
      const bool ones = plane >= p.channels;
      const int64_t own = p.value_plane(image, plane);
      const T* values = !kDots ? nullptr : ones ? points.ones : p.values + own;
      const T* next = plane + 1 < p.planes ? p.field_plane(image, plane + 1) : field;
      if (kSample && !ones) {
        gather_plane<T, kBytes, kSample, kDots>(points, tile, field, width, next, values,
                                                p.sampled + own);
      } else if (kDots) {
        gather_plane<T, kBytes, false, kDots>(points, tile, field, width, next, values, nullptr);
      }
    }
    if constexpr (kDots) store_gradients<T, kBytes>(p, image, tile, points);
  }
  return finite;
}

// Adds to one plane. A run of points is added to whole vectors; the right taps of a vector of it
// are moved by one lane, and the last of them is kept for the next vector of the run.
template <typename T, int kBytes>
class Adder {
  typedef typename Vector<T, kBytes>::type V;
  typedef typename Vector<T, kBytes>::Integers I;
  static constexpr int kLanes = Vector<T, kBytes>::kLanes;

 public:
  AMODAL2_INLINE Adder(const Points<T, kBytes>& points, T* sums, int64_t width)
      : points_(points), sums_(sums), width_(width) {}

  AMODAL2_INLINE void add_row(int64_t start, int64_t end, const T* values) {
    for (; start < end; start += kLanes, values += kLanes) {
      const auto* base = points_.base + start;
      switch (points_.kinds[start / kLanes]) {
        case BlockKind::kRun:
          add_run(start, sums_ + base[0], load_vector<V>(values));
          continue;
        case BlockKind::kBreak: {
          const V value = load_vector<V>(values);
          const I first = in_first_run<T, kBytes>(base);
          add_run(start, sums_ + base[0], first ? value : V{});
          open_ = nullptr;  // nothing of the first run is left over
          add_run(start, sums_ + base[kLanes - 1] - (kLanes - 1), first ? V{} : value);
          continue;
        }
        case BlockKind::kInside:
          close();
          add_inside(start, load_vector<V>(values));
          continue;
        case BlockKind::kMixed:
          close();
          add_mixed(start, std::min(start + kLanes, end), values);
          continue;
        case BlockKind::kOutside:
          close();
      }
    }
  }

  // Adds what is left over of the last run.
  AMODAL2_INLINE void close() {
    if (!open_) return;
    open_[0] += right_[0][kLanes - 1];
    open_[width_] += right_[1][kLanes - 1];
    open_ = nullptr;
  }

 private:
  AMODAL2_INLINE void add_run(int64_t start, T* to, const V& value) {
    if (to != open_) {
      close();
      right_[0] = right_[1] = V{};
    }
    for (int row = 0; row < 2; ++row) {
      const V left = value * load_vector<V>(points_.shares[2 * row] + start);
      const V next = value * load_vector<V>(points_.shares[2 * row + 1] + start);
      T* at = to + row * width_;
      constexpr auto kAll = std::make_integer_sequence<int, kLanes>();
      const V shifted = shuffle<T, kBytes>(right_[row], next, shifted_lanes(kAll));
      store_vector(at, load_vector<V>(at) + shifted + left);
      right_[row] = next;
    }
    open_ = to + kLanes;
  }

  AMODAL2_INLINE void add_inside(int64_t start, const V& value) {
    T parts[4][kLanes];
    for (int tap = 0; tap < 4; ++tap) {
      store_vector(parts[tap], value * load_vector<V>(points_.shares[tap] + start));
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      T* at = sums_ + points_.base[start + lane];
      at[0] += parts[0][lane];
      at[1] += parts[1][lane];
      at[width_] += parts[2][lane];
      at[width_ + 1] += parts[3][lane];
    }
  }

  AMODAL2_INLINE void add_mixed(int64_t start, int64_t end, const T* values) {
    for (int64_t k = start; k < end; ++k) {
      for (int tap = 0; tap < 4; ++tap) {
        if (points_.flags[k] >> tap & 1) {
          sums_[points_.base[k] + tap / 2 * width_ + tap % 2] +=
              points_.shares[tap][k] * values[k - start];
        }
      }
    }
  }

  const Points<T, kBytes>& points_;
  T* const sums_;
  const int64_t width_;
  V right_[2] = {};    // right taps of the vector before, in both rows
  T* open_ = nullptr;  // where the last lane of them belongs, null if it has been added
};

// Sets planes `begin` to `end` of an image to what is added up in them; tells whether the image's
// flow is finite.
template <typename T, int kBytes>
AMODAL2_INLINE bool scatter_planes(const WarpProblem<T>& p, int64_t image, int64_t begin,
                                   int64_t end) {
  const int64_t width = p.geometry.width;
  for (int64_t plane = begin; plane < end; ++plane) {
    std::fill_n(p.sums_plane(image, plane), p.geometry.pixels(), T(0));
  }
  Points<T, kBytes> points;
  bool finite = true;
  for (int64_t number = 0; number < p.geometry.tiles(); ++number) {
    const Tile tile = p.geometry.tile(number);
    finite &= find_points<T, kBytes>(p.geometry, image, tile, points);
    for (int64_t plane = begin; plane < end; ++plane) {
      Adder<T, kBytes> adder(points, p.sums_plane(image, plane), width);
      const bool ones = plane >= p.channels;
      const T* next = p.sums_plane(image, plane + 1 < end ? plane + 1 : plane);
      const T* values = ones ? points.ones : p.values + p.value_plane(image, plane);
      for (int64_t row = 0; row < tile.rows; ++row) {
        const int64_t start = row * points.pitch;
        points.around.template fetch<1>(next, width, row, tile.rows);
        const int64_t own = ones ? 0 : (tile.row + row) * width + tile.column;
        adder.add_row(start, start + tile.columns, values + own);
      }
      adder.close();
    }
  }
  return finite;
}

// Divides pixels `begin` to `end` of an image's sums by max(covered, least).
template <typename T>
AMODAL2_INLINE void average_pixels(const WarpProblem<T>& p, T least, int64_t image, int64_t begin,
                                   int64_t end) {
  T divisor[kTilePixels];
  for (int64_t first = begin; first < end; first += kTilePixels) {
    const int64_t count = std::min(kTilePixels, end - first);
    const T* covered = p.sums_plane(image, p.channels) + first;
    for (int64_t k = 0; k < count; ++k) divisor[k] = covered[k] > least ? covered[k] : least;
    for (int64_t channel = 0; channel < p.channels; ++channel) {
      T* sums = p.sums_plane(image, channel) + first;
      for (int64_t k = 0; k < count; ++k) sums[k] /= divisor[k];
    }
  }
}

}  // namespace amodal2
