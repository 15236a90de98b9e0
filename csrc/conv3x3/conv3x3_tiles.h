// The tile transforms of Winograd's convolution F(4x4, 3x3) (Lavin and Gray, Fast Algorithms for
// Convolutional Neural Networks, 2016, Sec. 4.1 and 4.3), on maps whose channels come last.
//
// A map is cut into tiles of 4x4 output pixels. Each becomes 36 numbers per channel, one in each of
// 36 matrices [tiles, channels]; there the convolution is a matrix product per matrix.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/simd.h"

// Lambdas that belong to the instruction set of the function they stand in.
#define AMODAL2_INLINED __attribute__((always_inline))

namespace amodal2 {

constexpr int kTile = 4, kPatch = 6, kMatrices = kPatch * kPatch;

// Maps [images, height, width, channels], cut into tiles row by row.
struct TileGrid {
  int64_t images, height, width;
  int64_t rows() const { return (height + kTile - 1) / kTile; }
  int64_t columns() const { return (width + kTile - 1) / kTile; }
  int64_t tiles() const { return images * rows() * columns(); }
};

// B^T: 6 pixels of the input to the 6 points at which the product is taken.
struct InputTransform {
  static constexpr int kFrom = kPatch, kTo = kPatch, kMargin = 1;
  template <typename V>
  static AMODAL2_INLINE void apply(const V* d, V* t) {
    const V a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
    t[0] = 4 * d[0] - 5 * d[2] + d[4];
    t[1] = a + b;
    t[2] = a - b;
    t[3] = c + e;
    t[4] = c - e;
    t[5] = 4 * d[1] - 5 * d[3] + d[5];
  }
};

// A^T: the 6 points to 4 pixels of the output.
struct OutputTransform {
  static constexpr int kFrom = kPatch, kTo = kTile;
  template <typename V>
  static AMODAL2_INLINE void apply(const V* m, V* y) {
    const V a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    y[0] = m[0] + a + c;
    y[1] = b + 2 * e;
    y[2] = a + 4 * c;
    y[3] = b + 8 * e + m[5];
  }
};

// A: the gradient of 4 pixels of the output to that of the 6 points.
struct GradientTransform {
  static constexpr int kFrom = kTile, kTo = kPatch, kMargin = 0;
  template <typename V>
  static AMODAL2_INLINE void apply(const V* y, V* m) {
    const V a = y[0] + y[2], b = y[1] + y[3], c = y[0] + 4 * y[2], e = 2 * y[1] + 8 * y[3];
    m[0] = y[0];
    m[1] = a + b;
    m[2] = a - b;
    m[3] = c + e;
    m[4] = c - e;
    m[5] = y[3];
  }
};

// Applies a transform to the columns of a tile, then to its rows.
template <typename Transform, typename V, typename Load, typename Store>
AMODAL2_INLINE void transform_tile(const Load& load, const Store& store) {
  V columns[Transform::kTo][Transform::kFrom];
  for (int x = 0; x < Transform::kFrom; ++x) {
    V from[Transform::kFrom], to[Transform::kTo];
    for (int y = 0; y < Transform::kFrom; ++y) from[y] = load(y * Transform::kFrom + x);
    Transform::apply(from, to);
    for (int y = 0; y < Transform::kTo; ++y) columns[y][x] = to[y];
  }
  for (int y = 0; y < Transform::kTo; ++y) {
    V to[Transform::kTo];
    Transform::apply(columns[y], to);
    for (int x = 0; x < Transform::kTo; ++x) store(y * Transform::kTo + x, to[x]);
  }
}

// Calls `work` for the channels in vectors, and for the rest one by one.
template <typename T, int kBytes, typename Work>
AMODAL2_INLINE void for_channels(int64_t channels, const Work& work) {
  typedef typename Vector<T, kBytes>::type V;
  int64_t c = 0;
  for (; c + Vector<T, kBytes>::kLanes <= channels; c += Vector<T, kBytes>::kLanes) {
    work(c, V{});
  }
  for (; c < channels; ++c) work(c, T{});
}

// Takes tiles begin ... end - 1 of `maps` apart; `first` is the tile in row 0 of the matrices
// [36, count, channels]. Outside the map there are zeros.
template <typename Transform, typename T, int kBytes>
AMODAL2_INLINE void scatter_tiles(const T* maps, const TileGrid& grid, int64_t channels,
                                  int64_t first, int64_t count, int64_t begin, int64_t end,
                                  T* matrices) {
  const std::vector<T> nothing(channels, T(0));
  const T* pixels[Transform::kFrom * Transform::kFrom];
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t column = tile % grid.columns(), row = tile / grid.columns() % grid.rows();
    const int64_t image = tile / (grid.columns() * grid.rows());
    const T* map = maps + image * grid.height * grid.width * channels;
    for (int i = 0; i < Transform::kFrom * Transform::kFrom; ++i) {
      const int64_t y = row * kTile - Transform::kMargin + i / Transform::kFrom;
      const int64_t x = column * kTile - Transform::kMargin + i % Transform::kFrom;
      const bool inside = y >= 0 && y < grid.height && x >= 0 && x < grid.width;
      pixels[i] = inside ? map + (y * grid.width + x) * channels : nothing.data();
    }
    T* to = matrices + (tile - first) * channels;
    for_channels<T, kBytes>(channels, [&](int64_t c, auto kind) AMODAL2_INLINED {
      typedef decltype(kind) V;
      transform_tile<Transform, V>(
          [&](int i) AMODAL2_INLINED { return load_vector<V>(pixels[i] + c); },
          [&](int i, const V& value) AMODAL2_INLINED {
            store_vector(to + i * count * channels + c, value);
          });
    });
  }
}

// Puts tiles begin ... end - 1 of `maps` together from matrices as above, and adds the bias if
// there is one.
template <typename T, int kBytes>
AMODAL2_INLINE void gather_tiles(const T* matrices, const T* bias, const TileGrid& grid,
                                 int64_t channels, int64_t first, int64_t count, int64_t begin,
                                 int64_t end, T* maps) {
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t column = tile % grid.columns(), row = tile / grid.columns() % grid.rows();
    const int64_t image = tile / (grid.columns() * grid.rows());
    T* map = maps + image * grid.height * grid.width * channels;
    const int64_t height = std::min<int64_t>(kTile, grid.height - row * kTile);
    const int64_t width = std::min<int64_t>(kTile, grid.width - column * kTile);
    const T* from = matrices + (tile - first) * channels;
    T* to = map + (row * kTile * grid.width + column * kTile) * channels;
    for_channels<T, kBytes>(channels, [&](int64_t c, auto kind) AMODAL2_INLINED {
      typedef decltype(kind) V;
      const V shift = bias ? load_vector<V>(bias + c) : V{};
      transform_tile<OutputTransform, V>(
          [&](int i) AMODAL2_INLINED { return load_vector<V>(from + i * count * channels + c); },
          [&](int i, const V& value) AMODAL2_INLINED {
            const int y = i / kTile, x = i % kTile;
            if (y < height && x < width) {
              store_vector(to + (y * grid.width + x) * channels + c, V(value + shift));
            }
          });
    });
  }
}

}  // namespace amodal2
