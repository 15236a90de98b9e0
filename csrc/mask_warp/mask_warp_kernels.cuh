// The CUDA kernels of warping and splatting.
//
// One thread takes one pixel: it finds the pixel's point once and goes through the channels, so that
// neighbouring threads read and write neighbouring numbers. Sums are kept in `Sum`: float, or double
// for double masks.
#pragma once

#include <ATen/cuda/Atomic.cuh>

#include <cstdint>

namespace amodal2 {

// How the pixels of the images are connected with points.
template <typename Sum>
struct WarpMap {
  int64_t images, height, width;
  bool border;
  Sum offset_x, offset_y;
  const Sum* flow;    // [N, 2, H, W]
  const Sum* weight;  // [N, 1, H, W], null for 1

  __host__ __device__ int64_t pixels() const { return height * width; }
};

// One coordinate of a point: the pixel before it, the way from it, whether it moves with the flow.
template <typename Sum>
struct WarpCoordinate {
  int64_t low;
  Sum fraction;
  bool moves;

  __device__ WarpCoordinate(Sum position, int64_t size, bool border) : moves(true) {
    if (border) {
      const Sum last = static_cast<Sum>(size - 1);
      moves = position > Sum(0) && position < last;
      position = position > Sum(0) ? position : Sum(0);
      position = position < last ? position : last;
    } else {
      // Bounded so that the conversion is defined; what is beyond has no tap inside anyway.
      const Sum most = static_cast<Sum>(size + 1);
      position = position > Sum(-2) ? position : Sum(-2);
      position = position < most ? position : most;
    }
    low = static_cast<int64_t>(floor(position));
    if (border && low > size - 2) low = size > 1 ? size - 2 : 0;
    fraction = position - static_cast<Sum>(low);
  }
};

// The planes of all images: those of the channels, [N, channels, H, W], and, where `planes` is one
// more, a last one for what is covered, [N, 1, H, W].
template <typename Number>
struct WarpPlanes {
  int64_t channels, planes, pixels;
  Number* numbers;
  Number* covered;

  __device__ Number* plane(int64_t image, int64_t plane) const {
    return plane < channels ? numbers + (image * channels + plane) * pixels
                            : covered + image * pixels;
  }
};

// The four pixels around the point of one pixel: top left and right, bottom left and right.
template <typename Sum>
struct WarpTaps {
  int64_t index[4];
  int64_t place;  // number of the top left one among the (H + 1) (W + 1) that have a tap inside
  bool inside[4];
  Sum share[4];
  Sum x, y;
  bool moves_x, moves_y;
  bool finite;  // a pixel whose flow is not finite has no tap inside

  __device__ WarpTaps(const WarpMap<Sum>& map, int64_t image, int64_t pixel) {
    const int64_t row = pixel / map.width, column = pixel % map.width;
    const Sum* flow = map.flow + image * 2 * map.pixels() + pixel;
    const Sum position_x = static_cast<Sum>(column) + flow[0] + map.offset_x;
    const Sum position_y = static_cast<Sum>(row) + flow[map.pixels()] + map.offset_y;
    finite = position_x - position_x == Sum(0) && position_y - position_y == Sum(0);
    const WarpCoordinate<Sum> across(position_x, map.width, map.border);
    const WarpCoordinate<Sum> down(position_y, map.height, map.border);
    place = (down.low + 1) * (map.width + 1) + across.low + 1;
    x = across.fraction;
    y = down.fraction;
    moves_x = across.moves;
    moves_y = down.moves;
    for (int tap = 0; tap < 4; ++tap) {
      const int64_t tap_row = down.low + tap / 2, tap_column = across.low + tap % 2;
      inside[tap] = finite && tap_row >= 0 && tap_row < map.height && tap_column >= 0 &&
          tap_column < map.width;
      index[tap] = tap_row * map.width + tap_column;
      share[tap] = (tap % 2 ? x : Sum(1) - x) * (tap / 2 ? y : Sum(1) - y);
    }
  }
};

// Samples the field at the points. Writes the samples [N, channels, H, W], times the weight, and the
// gradients of flow and weight: the field's slopes and samples times the values
// [N, channels, H, W], which are 1 in the covered plane. What is null is not written; without
// gradients, gridDim.y shares out the channels.
template <typename Field, typename Value, typename Sum, bool kDots>
__global__ void gather_kernel(WarpMap<Sum> map, WarpPlanes<const Field> fields,
                              const Value* __restrict__ values,
                              Value* __restrict__ sampled, Sum* __restrict__ grad_flow,
                              Sum* __restrict__ grad_weight, bool mark_not_finite) {
  const int64_t pixels = map.pixels(), total = map.images * pixels, channels = fields.channels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    const int64_t image = i / pixels, pixel = i % pixels;
    const WarpTaps<Sum> taps(map, image, pixel);
    const Sum weight = map.weight ? map.weight[i] : Sum(1);
    Sum dots[4] = {0, 0, 0, 0};
    for (int64_t plane = blockIdx.y; plane < fields.planes; plane += gridDim.y) {
      const Field* __restrict__ from = fields.plane(image, plane);
      const int64_t own = (image * channels + plane) * pixels + pixel;
      Sum corner[4];
      for (int tap = 0; tap < 4; ++tap) {
        corner[tap] = taps.inside[tap] ? static_cast<Sum>(from[taps.index[tap]]) : Sum(0);
      }
      if (sampled && plane < channels) {
        Sum sum = 0;
        for (int tap = 0; tap < 4; ++tap) sum += taps.share[tap] * corner[tap];
        if (mark_not_finite && !taps.finite) sum = static_cast<Sum>(NAN);
        sampled[own] = static_cast<Value>(sum * weight);
      }
      if constexpr (kDots) {
        const Sum value = plane < channels ? static_cast<Sum>(values[own]) : Sum(1);
        for (int tap = 0; tap < 4; ++tap) dots[tap] += value * corner[tap];
      }
    }
    if constexpr (kDots) {
      const Sum top_step = dots[1] - dots[0], bottom_step = dots[3] - dots[2];
      const Sum top = dots[0] + taps.x * top_step, bottom = dots[2] + taps.x * bottom_step;
      if (grad_flow) {
        Sum* grad = grad_flow + image * 2 * pixels + pixel;
        const Sum by_x = (top_step + taps.y * (bottom_step - top_step)) * weight;
        grad[0] = taps.moves_x ? by_x : Sum(0);
        grad[pixels] = taps.moves_y ? (bottom - top) * weight : Sum(0);
      }
      if (grad_weight) grad_weight[i] = top + taps.y * (bottom - top);
    }
  }
}

// Adds the values [N, channels, H, W], times the weight, to the sums at the points, in any order; the
// covered plane gets the weight itself. gridDim.y shares out the planes.
template <typename Value, typename Sum>
__global__ void scatter_kernel(WarpMap<Sum> map, WarpPlanes<Sum> sums,
                               const Value* __restrict__ values) {
  const int64_t pixels = map.pixels(), total = map.images * pixels, channels = sums.channels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    const int64_t image = i / pixels, pixel = i % pixels;
    const WarpTaps<Sum> taps(map, image, pixel);
    const Sum weight = map.weight ? map.weight[i] : Sum(1);
    for (int64_t plane = blockIdx.y; plane < sums.planes; plane += gridDim.y) {
      Sum value = weight;
      if (plane < channels) {
        value *= static_cast<Sum>(values[(image * channels + plane) * pixels + pixel]);
      }
      Sum* to = sums.plane(image, plane);
      for (int tap = 0; tap < 4; ++tap) {
        if (taps.inside[tap]) gpuAtomicAddNoReturn(to + taps.index[tap], taps.share[tap] * value);
      }
    }
  }
}

// First half of the deterministic scatter: writes each pixel's place, by which the pixels are then
// sorted, and the weighted shares of its taps, [N * H * W, 4]. A pixel without a tap inside gets the
// number after the last place of all images.
template <typename Sum>
__global__ void place_kernel(WarpMap<Sum> map, int64_t* __restrict__ places,
                             Sum* __restrict__ shares) {
  const int64_t pixels = map.pixels(), total = map.images * pixels;
  const int64_t per_image = (map.height + 1) * (map.width + 1);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    const int64_t image = i / pixels;
    const WarpTaps<Sum> taps(map, image, i % pixels);
    const Sum weight = map.weight ? map.weight[i] : Sum(1);
    bool any = false;
    for (int tap = 0; tap < 4; ++tap) {
      any = any || taps.inside[tap];
      shares[i * 4 + tap] = taps.share[tap] * weight;
    }
    places[i] = any ? image * per_image + taps.place : map.images * per_image;
  }
}

// Second half: one thread takes one pixel that is added to, and goes through the pixels that reach
// it, tap by tap in the order of memory. `order` lists the pixels sorted by place, `starts` where in
// it each place begins, with one more for the end of the last.
template <typename Value, typename Sum>
__global__ void ordered_scatter_kernel(WarpMap<Sum> map, WarpPlanes<Sum> sums,
                                       const Value* __restrict__ values,
                                       const Sum* __restrict__ shares,
                                       const int64_t* __restrict__ order,
                                       const int64_t* __restrict__ starts) {
  const int64_t pixels = map.pixels(), total = map.images * pixels, channels = sums.channels;
  const int64_t per_image = (map.height + 1) * (map.width + 1);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    const int64_t image = i / pixels, pixel = i % pixels;
    const int64_t row = pixel / map.width, column = pixel % map.width;
    for (int64_t plane = blockIdx.y; plane < sums.planes; plane += gridDim.y) {
      const Value* from = values + (image * channels + plane) * pixels;
      Sum sum = 0;
      for (int tap = 0; tap < 4; ++tap) {
        const int64_t place = image * per_image + (row + 1 - tap / 2) * (map.width + 1) +
            column + 1 - tap % 2;
        for (int64_t k = starts[place]; k < starts[place + 1]; ++k) {
          const Sum share = shares[order[k] * 4 + tap];
          sum += plane < channels ? share * static_cast<Sum>(from[order[k] - image * pixels])
                                  : share;
        }
      }
      sums.plane(image, plane)[pixel] = sum;
    }
  }
}

}  // namespace amodal2
