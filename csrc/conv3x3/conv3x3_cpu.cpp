// 3x3 convolutions on the CPU by Winograd's F(4x4, 3x3): a quarter of the multiplications.
//
// The tiles pass in groups whose matrices stay in the cache. Each tile writes pixels of its own,
// and sums over tiles are matrix products, so nothing depends on how tiles are spread over threads.
#include <ATen/ATen.h>
#include <torch/library.h>

#if defined(__GNUC__)  // the loops use vector types of GCC and Clang; elsewhere the reference runs

#include <ATen/Parallel.h>

#include <array>
#include <tuple>

#include "common/checks.h"
#include "conv3x3/conv3x3_tiles.h"

namespace amodal2 {
namespace {

constexpr const char* kName = "conv3x3";
constexpr int64_t kTilesPerGroup = 240;
constexpr int64_t kTilesPerTask = 8;

#define AMODAL2_DEFINE_LOOPS(suffix, T, bytes, target)                                        \
  target void scatter_input_##suffix(const T* maps, const TileGrid& grid, int64_t channels,   \
                                     int64_t first, int64_t count, int64_t begin, int64_t end, \
                                     T* matrices) {                                           \
    scatter_tiles<InputTransform, T, bytes>(maps, grid, channels, first, count, begin, end,   \
                                            matrices);                                        \
  }                                                                                           \
  target void scatter_gradient_##suffix(const T* maps, const TileGrid& grid, int64_t channels, \
                                        int64_t first, int64_t count, int64_t begin,          \
                                        int64_t end, T* matrices) {                           \
    scatter_tiles<GradientTransform, T, bytes>(maps, grid, channels, first, count, begin, end, \
                                               matrices);                                     \
  }                                                                                           \
  target void gather_##suffix(const T* matrices, const T* bias, const TileGrid& grid,         \
                              int64_t channels, int64_t first, int64_t count, int64_t begin,  \
                              int64_t end, T* maps) {                                         \
    gather_tiles<T, bytes>(matrices, bias, grid, channels, first, count, begin, end, maps);   \
  }

// One copy of the loops per number type and instruction set.
AMODAL2_DEFINE_LOOPS(baseline, float, 16, )
AMODAL2_DEFINE_LOOPS(baseline, double, 16, )
#if defined(AMODAL2_TARGET_AVX2)
AMODAL2_DEFINE_LOOPS(avx2, float, 32, AMODAL2_TARGET_AVX2)
AMODAL2_DEFINE_LOOPS(avx2, double, 32, AMODAL2_TARGET_AVX2)
#else
constexpr auto scatter_input_avx2 = [](const auto&... all) { scatter_input_baseline(all...); };
constexpr auto scatter_gradient_avx2 = [](const auto&... all) {
  scatter_gradient_baseline(all...);
};
constexpr auto gather_avx2 = [](const auto&... all) { gather_baseline(all...); };
#endif

// Takes `count` tiles from `first` on apart, into [36, count, channels].
template <typename T>
void scatter(const at::Tensor& maps, bool gradient, const TileGrid& grid, int64_t first,
             int64_t count, at::Tensor& matrices) {
  const T* from = maps.const_data_ptr<T>();
  T* to = matrices.mutable_data_ptr<T>();
  const int64_t channels = maps.size(1);
  at::parallel_for(first, first + count, kTilesPerTask, [&](int64_t begin, int64_t end) {
    if (gradient) {
      has_avx2() ? scatter_gradient_avx2(from, grid, channels, first, count, begin, end, to)
                 : scatter_gradient_baseline(from, grid, channels, first, count, begin, end, to);
    } else {
      has_avx2() ? scatter_input_avx2(from, grid, channels, first, count, begin, end, to)
                 : scatter_input_baseline(from, grid, channels, first, count, begin, end, to);
    }
  });
}

// Puts `count` tiles from `first` on together.
template <typename T>
void gather(const at::Tensor& matrices, const at::Tensor& bias, const TileGrid& grid,
            int64_t first, int64_t count, at::Tensor& maps) {
  const T* from = matrices.const_data_ptr<T>();
  const T* shift = bias.defined() ? bias.const_data_ptr<T>() : nullptr;
  T* to = maps.mutable_data_ptr<T>();
  const int64_t channels = maps.size(1);
  at::parallel_for(first, first + count, kTilesPerTask, [&](int64_t begin, int64_t end) {
    has_avx2() ? gather_avx2(from, shift, grid, channels, first, count, begin, end, to)
               : gather_baseline(from, shift, grid, channels, first, count, begin, end, to);
  });
}

// G x G: 9 numbers of a kernel to those at the 36 points.
at::Tensor kernel_transform(const at::Tensor& like) {
  const std::array<double, 18> g = {1. / 4,  0,        0,       -1. / 6, -1. / 6,  -1. / 6,
                                    -1. / 6, 1. / 6,   -1. / 6, 1. / 24, 1. / 12,  1. / 6,
                                    1. / 24, -1. / 12, 1. / 6,  0,       0,        1};
  const at::Tensor matrix = at::tensor(g, like.options()).view({6, 3});
  return at::kron(matrix, matrix);
}

TileGrid make_grid(const at::Tensor& maps) { return {maps.size(0), maps.size(2), maps.size(3)}; }

at::Tensor channels_last(const at::Tensor& maps) {
  return maps.contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor empty_maps(const at::Tensor& like, int64_t channels) {
  return at::empty({like.size(0), channels, like.size(2), like.size(3)}, like.options(),
                   at::MemoryFormat::ChannelsLast);
}

// Convolves maps with kernels at the points, [36, channels in, channels out].
at::Tensor convolve(const at::Tensor& maps, const at::Tensor& kernels, const at::Tensor& bias) {
  const TileGrid grid = make_grid(maps);
  at::Tensor output = empty_maps(maps, kernels.size(2));
  for (int64_t first = 0; first < grid.tiles(); first += kTilesPerGroup) {
    const int64_t count = std::min(kTilesPerGroup, grid.tiles() - first);
    at::Tensor apart = at::empty({kMatrices, count, maps.size(1)}, maps.options());
    AT_DISPATCH_FLOATING_TYPES(maps.scalar_type(), kName, [&] {
      scatter<scalar_t>(maps, false, grid, first, count, apart);
      gather<scalar_t>(at::bmm(apart, kernels), bias, grid, first, count, output);
    });
  }
  return output;
}

// The gradient of the kernels, [out, in, 3, 3].
at::Tensor kernel_gradient(const at::Tensor& grad, const at::Tensor& maps) {
  const TileGrid grid = make_grid(maps);
  const int64_t in = maps.size(1), out = grad.size(1);
  at::Tensor sums = at::zeros({kMatrices, out, in}, maps.options());
  for (int64_t first = 0; first < grid.tiles(); first += kTilesPerGroup) {
    const int64_t count = std::min(kTilesPerGroup, grid.tiles() - first);
    at::Tensor apart = at::empty({kMatrices, count, in}, maps.options());
    at::Tensor grads = at::empty({kMatrices, count, out}, maps.options());
    AT_DISPATCH_FLOATING_TYPES(maps.scalar_type(), "_conv3x3_backward", [&] {
      scatter<scalar_t>(maps, false, grid, first, count, apart);
      scatter<scalar_t>(grad, true, grid, first, count, grads);
    });
    sums.baddbmm_(grads.transpose(1, 2), apart);
  }
  return at::mm(kernel_transform(maps).t(), sums.view({kMatrices, out * in}))
      .t()
      .contiguous()
      .view({out, in, 3, 3});
}

void check(const at::Tensor& input, const at::Tensor& weight) {
  AMODAL2_CHECK_CPU(kName, input);
  AMODAL2_CHECK_SAME_DEVICE(kName, weight, input);
  AMODAL2_CHECK_RANK(kName, input, 4, "[N, C, H, W]");
  AMODAL2_CHECK_RANK(kName, weight, 4, "[K, C, 3, 3]");
  AMODAL2_CHECK_SIZES(kName, weight, at::IntArrayRef({weight.size(0), input.size(1), 3, 3}));
  const at::ScalarType type = input.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kDouble, kName,
                   ": expected input of type float32 or float64, got ", type);
  AMODAL2_CHECK_DTYPE(kName, weight, type);
}

// [36, out, in].
at::Tensor kernels_at_points(const at::Tensor& weight) {
  const int64_t out = weight.size(0), in = weight.size(1);
  return at::mm(kernel_transform(weight), weight.reshape({out * in, 9}).t())
      .view({kMatrices, out, in});
}

at::Tensor forward(const at::Tensor& input, const at::Tensor& weight,
                   const std::optional<at::Tensor>& bias) {
  check(input, weight);
  at::Tensor shift;
  if (bias) {
    AMODAL2_CHECK_SAME_DEVICE(kName, *bias, input);
    AMODAL2_CHECK_SIZES(kName, *bias, at::IntArrayRef({weight.size(0)}));
    AMODAL2_CHECK_DTYPE(kName, *bias, input.scalar_type());
    shift = bias->contiguous();
  }
  return convolve(channels_last(input), kernels_at_points(weight).transpose(1, 2), shift);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& grad_output,
                                                        const at::Tensor& input,
                                                        const at::Tensor& weight,
                                                        std::array<bool, 3> needs) {
  check(input, weight);
  AMODAL2_CHECK_SIZES("_conv3x3_backward", grad_output,
                      at::IntArrayRef({input.size(0), weight.size(0), input.size(2),
                                       input.size(3)}));
  const at::Tensor grad = channels_last(grad_output);
  at::Tensor by_input = at::empty({0}, input.options()), by_weight = at::empty_like(by_input),
             by_bias = at::empty_like(by_input);
  if (needs[0]) by_input = convolve(grad, kernels_at_points(weight.flip({2, 3})), at::Tensor());
  if (needs[1]) by_weight = kernel_gradient(grad, channels_last(input));
  if (needs[2]) by_bias = grad.sum({0, 2, 3});
  return {by_input, by_weight, by_bias};
}

}  // namespace

TORCH_LIBRARY_IMPL(amodal2, CPU, m) {
  m.impl("conv3x3", &forward);
  m.impl("_conv3x3_backward", &backward);
}

}  // namespace amodal2

#endif
