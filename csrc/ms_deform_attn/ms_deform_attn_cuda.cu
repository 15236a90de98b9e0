// Multi-scale deformable attention on CUDA.
//
// A group of up to 32 neighbouring lanes serves one query and head, each lane one pack of channels
// at a time, so a corner of a sample is read by one coalesced access. The forward pass writes each
// number once. The backward pass reduces the gradients of locations and weights over the group, in
// a fixed order, and adds to the gradient of the values atomically: in floating point, whose result
// depends on the order of the threads, or, if PyTorch is asked for deterministic algorithms, in
// 64-bit fixed point, whose result does not.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "common/launch.cuh"
#include "ms_deform_attn/ms_deform_attn_checks.h"

namespace amodal2 {
namespace {

constexpr const char* kName = "ms_deform_attn";

// Levels travel in the arguments of the kernel, which hold 4 kB.
constexpr int kMostLevels = 128;

struct Level {
  int height, width, start;
};

// Sizes of one call.
struct Shape {
  int64_t items;  // B * Q * M
  int64_t queries, heads, length, depth, points;
  int lanes;  // that serve one item, a power of two
  int level_count;
  Level levels[kMostLevels];
};

// One sample of an item: its corners (top left, top right, bottom left, bottom right).
template <typename A>
struct Sample {
  int rows[4];  // numbers of the rows of values, -1 outside the level
  A weights[4];
  A x, y;  // fractions of the way from the left to the right, the top to the bottom corners
};

// Splits a coordinate in units of the image into the pixel before it and the fraction, which is NaN
// if the coordinate is not finite.
template <typename A>
__device__ inline int split_axis(A unit, int size, A* fraction) {
  const A pixel = unit * size - A(0.5);
  // Bounded so that the conversion is defined; both comparisons are false for NaN.
  const A lowest = -2, highest = A(size) + 1;
  const A above = pixel > lowest ? pixel : lowest;
  const A bounded = above < highest ? above : highest;
  const A low = ::floor(bounded);
  *fraction = bounded - low + (pixel - pixel);
  return static_cast<int>(low);
}

template <typename A>
__device__ inline Sample<A> make_sample(const Level& level, const A* location, A attention) {
  Sample<A> sample;
  const int x = split_axis(location[0], level.width, &sample.x);
  const int y = split_axis(location[1], level.height, &sample.y);
  const bool left = x >= 0 && x < level.width, right = x >= -1 && x < level.width - 1;
  const bool top = y >= 0 && y < level.height, bottom = y >= -1 && y < level.height - 1;
  const int row = level.start + y * level.width + x;
  sample.rows[0] = top && left ? row : -1;
  sample.rows[1] = top && right ? row + 1 : -1;
  sample.rows[2] = bottom && left ? row + level.width : -1;
  sample.rows[3] = bottom && right ? row + level.width + 1 : -1;
  const A below = sample.y * attention, above = attention - below;
  sample.weights[1] = above * sample.x;
  sample.weights[0] = above - sample.weights[1];
  sample.weights[3] = below * sample.x;
  sample.weights[2] = below - sample.weights[3];
  return sample;
}

// Where the first value of an item's image and head is.
__device__ inline int64_t first_value(const Shape& s, int64_t item) {
  const int64_t image = item / (s.heads * s.queries), head = item % s.heads;
  return (image * s.length * s.heads + head) * s.depth;
}

// The four corners' packs, zero outside the level, so that weights that are NaN count there too.
template <typename T, int kCount>
__device__ inline void load_corners(const T* values, const int (&rows)[4], int64_t row_step,
                                    Pack<T, kCount> (&corners)[4]) {
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    corners[corner] = Pack<T, kCount>{};
    if (rows[corner] >= 0) {
      corners[corner] = load_pack<T, kCount>(values + rows[corner] * row_step);
    }
  }
}

template <typename T, typename A, int kCount>
__global__ void __launch_bounds__(kBlock)
    forward_kernel(const Shape s, const T* __restrict__ value, const A* __restrict__ locations,
                   const A* __restrict__ weights, T* __restrict__ output) {
  const int64_t item =
      static_cast<int64_t>(blockIdx.x) * (kBlock / s.lanes) + threadIdx.x / s.lanes;
  if (item >= s.items) return;
  const int64_t row_step = s.heads * s.depth, first = first_value(s, item);
  for (int64_t channel = threadIdx.x % s.lanes * kCount; channel < s.depth;
       channel += s.lanes * kCount) {
    Pack<A, kCount> sum{};
    int64_t k = item * s.level_count * s.points;
    for (int level = 0; level < s.level_count; ++level) {
      for (int64_t end = k + s.points; k < end; ++k) {
        const Sample<A> sample = make_sample(s.levels[level], locations + 2 * k, weights[k]);
        Pack<T, kCount> corners[4];
        load_corners(value + first + channel, sample.rows, row_step, corners);
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
#pragma unroll
          for (int i = 0; i < kCount; ++i) {
            sum.at[i] += sample.weights[corner] * static_cast<A>(corners[corner].at[i]);
          }
        }
      }
    }
    Pack<T, kCount> rounded;
#pragma unroll
    for (int i = 0; i < kCount; ++i) rounded.at[i] = static_cast<T>(sum.at[i]);
    store_pack(output + item * s.depth + channel, rounded);
  }
}

// Sums of the gradient of the values in floating point.
template <typename A>
struct FloatingSums {
  A* sums;

  template <int kCount>
  __device__ void add(int64_t at, const Pack<A, kCount>& pack) const {
    add_atomically(sums + at, pack);
  }
};

// The same as integers, in units of 1 / *scale; negative ones wrap around, as their sums do.
struct FixedSums {
  unsigned long long* sums;
  const double* scale;

  template <typename A, int kCount>
  __device__ void add(int64_t at, const Pack<A, kCount>& pack) const {
    for (int i = 0; i < kCount; ++i) {
      const auto whole = __double2ll_rn(static_cast<double>(pack.at[i]) * *scale);
      atomicAdd(sums + at + i, static_cast<unsigned long long>(whole));
    }
  }
};

template <typename T, typename A, int kCount, typename Sums>
__global__ void __launch_bounds__(kBlock)
    backward_kernel(const Shape s, const T* __restrict__ grad_output, const T* __restrict__ value,
                    const A* __restrict__ locations, const A* __restrict__ weights,
                    const Sums grad_value, A* __restrict__ grad_locations,
                    A* __restrict__ grad_weights) {
  const int64_t place =
      static_cast<int64_t>(blockIdx.x) * (kBlock / s.lanes) + threadIdx.x / s.lanes;
  // Lanes beyond the last item repeat it and write nothing, since all must take part in the sums.
  const bool writes = place < s.items;
  const int64_t item = writes ? place : s.items - 1;
  const int lane = threadIdx.x % s.lanes;
  const int64_t row_step = s.heads * s.depth, first = first_value(s, item);
  int64_t k = item * s.level_count * s.points;
  for (int level = 0; level < s.level_count; ++level) {
    for (int64_t end = k + s.points; k < end; ++k) {
      const A attention = weights[k];
      const Sample<A> sample = make_sample(s.levels[level], locations + 2 * k, attention);
      A dots[4] = {};  // of the gradient with each corner
      for (int64_t channel = lane * kCount; channel < s.depth; channel += s.lanes * kCount) {
        const auto grad = load_pack<T, kCount>(grad_output + item * s.depth + channel);
        Pack<T, kCount> corners[4];
        load_corners(value + first + channel, sample.rows, row_step, corners);
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          Pack<A, kCount> part;
#pragma unroll
          for (int i = 0; i < kCount; ++i) {
            const A one = static_cast<A>(grad.at[i]);
            dots[corner] += one * static_cast<A>(corners[corner].at[i]);
            part.at[i] = one * sample.weights[corner];
          }
          if (writes && sample.rows[corner] >= 0) {
            grad_value.add(first + sample.rows[corner] * row_step + channel, part);
          }
        }
      }
      const A above_step = dots[1] - dots[0], below_step = dots[3] - dots[2];
      const A above = dots[0] + sample.x * above_step, below = dots[2] + sample.x * below_step;
      const A by_weight = sum_lanes(above + sample.y * (below - above), s.lanes);
      const A by_x = sum_lanes(above_step + sample.y * (below_step - above_step), s.lanes);
      const A by_y = sum_lanes(below - above, s.lanes);
      if (writes && lane == 0) {
        grad_weights[k] = by_weight;
        grad_locations[2 * k] = by_x * attention * s.levels[level].width;
        grad_locations[2 * k + 1] = by_y * attention * s.levels[level].height;
      }
    }
  }
}

// Describes a call whose lanes take `count` channels at a time.
Shape make_shape(const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
                 int count) {
  Shape s{};
  s.queries = locations.size(1);
  s.heads = value.size(2);
  s.length = value.size(1);
  s.depth = value.size(3);
  s.points = locations.size(4);
  s.items = value.size(0) * s.queries * s.heads;
  s.lanes = 1;
  while (s.lanes < kWarp && s.lanes * count < s.depth) s.lanes *= 2;
  int start = 0;
  for (size_t i = 0; i < shapes.size(); i += 2) {
    Level& level = s.levels[s.level_count++];
    level = {static_cast<int>(shapes[i]), static_cast<int>(shapes[i + 1]), start};
    start += level.height * level.width;
  }
  return s;
}

void check_levels(at::IntArrayRef shapes) {
  TORCH_CHECK_VALUE(shapes.size() <= 2 * kMostLevels, kName, ": expected at most ", kMostLevels,
                    " levels on CUDA, got ", shapes.size() / 2);
}

at::Tensor forward(const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
                   const at::Tensor& weights) {
  AMODAL2_CHECK_CUDA(kName, value);
  check_ms_deform_attn(value, shapes, locations, weights);
  check_levels(shapes);
  const int64_t depth = value.size(3);
  at::Tensor output =
      at::empty({value.size(0), locations.size(1), value.size(2) * depth}, value.options());
  if (output.numel() == 0) return output;
  const c10::cuda::CUDAGuard guard(value.device());
  const at::Tensor values = value.contiguous(), points = locations.contiguous();
  const at::Tensor attention = weights.contiguous();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), kName, [&] {
    using A = at::opmath_type<scalar_t>;
    const auto launch = [&](auto count) {
      constexpr int kCount = decltype(count)::value;
      const Shape s = make_shape(value, shapes, locations, kCount);
      forward_kernel<scalar_t, A, kCount><<<block_count(kName, s.items, kBlock / s.lanes), kBlock,
                                            0, c10::cuda::getCurrentCUDAStream()>>>(
          s, values.const_data_ptr<scalar_t>(), points.const_data_ptr<A>(),
          attention.const_data_ptr<A>(), output.mutable_data_ptr<scalar_t>());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    };
    if (rows_are_packs(values, depth)) {
      launch(std::integral_constant<int, kPackBytes / static_cast<int>(sizeof(scalar_t))>());
    } else {
      launch(std::integral_constant<int, 1>());
    }
  });
  return output;
}

// Returns the units per 1 of the fixed-point sums, a power of two as a tensor on the device: as
// many as leave room for the sum of all samples. It is 0 or NaN if a gradient or weight is not
// finite.
at::Tensor fixed_scale(const at::Tensor& grad, const at::Tensor& attention, int64_t samples) {
  const at::Tensor bound = grad.abs().amax().to(at::kDouble) *
                           attention.abs().amax().to(at::kDouble) * static_cast<double>(samples);
  return at::exp2((61 - at::log2(bound)).floor().clamp_max(1000));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& grad_output,
                                                        const at::Tensor& value,
                                                        at::IntArrayRef shapes,
                                                        const at::Tensor& locations,
                                                        const at::Tensor& weights) {
  AMODAL2_CHECK_CUDA(kName, value);
  check_ms_deform_attn_backward(grad_output, value, shapes, locations, weights);
  check_levels(shapes);
  if (grad_output.numel() == 0 || locations.numel() == 0) {
    return {at::zeros(value.sizes(), value.options()),
            at::zeros(locations.sizes(), locations.options()),
            at::zeros(weights.sizes(), weights.options())};
  }
  const c10::cuda::CUDAGuard guard(value.device());
  const at::Tensor values = value.contiguous(), points = locations.contiguous();
  const at::Tensor attention = weights.contiguous();
  const at::Tensor grad = grad_output.to(value.scalar_type()).contiguous();
  const int64_t depth = value.size(3);
  at::Tensor grad_locations = at::empty(locations.sizes(), locations.options());
  at::Tensor grad_weights = at::empty(weights.sizes(), weights.options());
  at::Tensor grad_value;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), kName, [&] {
    using A = at::opmath_type<scalar_t>;
    const auto launch = [&](auto count, auto sums) {
      constexpr int kCount = decltype(count)::value;
      const Shape s = make_shape(value, shapes, locations, kCount);
      backward_kernel<scalar_t, A, kCount><<<block_count(kName, s.items, kBlock / s.lanes), kBlock,
                                             0, c10::cuda::getCurrentCUDAStream()>>>(
          s, grad.const_data_ptr<scalar_t>(), values.const_data_ptr<scalar_t>(),
          points.const_data_ptr<A>(), attention.const_data_ptr<A>(), sums,
          grad_locations.mutable_data_ptr<A>(), grad_weights.mutable_data_ptr<A>());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    };
    if (at::globalContext().deterministicAlgorithms()) {
      const at::Tensor sums = at::zeros(value.sizes(), value.options().dtype(at::kLong));
      const at::Tensor scale = fixed_scale(grad, attention, locations.size(1) * locations.size(4));
      launch(std::integral_constant<int, 1>(),
             FixedSums{reinterpret_cast<unsigned long long*>(sums.mutable_data_ptr<int64_t>()),
                       scale.const_data_ptr<double>()});
      grad_value = sums.to(at::kDouble).div_(scale).to(value.scalar_type());
      return;
    }
    const at::Tensor sums = at::zeros(value.sizes(), locations.options());
    const FloatingSums<A> to{sums.mutable_data_ptr<A>()};
    if (rows_are_packs(values, depth) && rows_are_packs(grad, depth)) {
      launch(std::integral_constant<int, kPackBytes / static_cast<int>(sizeof(scalar_t))>(), to);
    } else {
      launch(std::integral_constant<int, 1>(), to);
    }
    grad_value = sums.to(value.scalar_type());
  });
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace

TORCH_LIBRARY_IMPL(amodal2, CUDA, m) {
  m.impl("ms_deform_attn", &forward);
  m.impl("_ms_deform_attn_backward", &backward);
}

}  // namespace amodal2
