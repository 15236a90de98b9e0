// Warping and splatting on CUDA: checks and launches. Compiled for sm_80 and sm_90, but not run yet.
//
// Splatting adds atomically, in any order. Under torch.use_deterministic_algorithms(True) the pixels
// are sorted by where they land instead, and each sum is made by one thread, in a fixed order. No
// launch waits for the host, so nobody looks whether the flow is finite: where it is not, a sample is
// NaN and a splatted pixel is dropped.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <type_traits>

#include "mask_warp/mask_warp_checks.h"
#include "mask_warp/mask_warp_kernels.cuh"

namespace amodal2 {
namespace {

constexpr int64_t kThreads = 256;

// Enough threads to fill a large device; fewer pixels share out their planes.
constexpr int64_t kManyThreads = int64_t{1} << 18;

template <typename T>
using SumOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Blocks for one thread per pixel, or per pixel and group of planes.
template <typename Sum>
dim3 blocks(const WarpMap<Sum>& map, int64_t planes) {
  const int64_t total = map.images * map.pixels();
  const int64_t across = std::min((total + kThreads - 1) / kThreads, int64_t{1} << 30);
  const int64_t most = std::min<int64_t>(planes, 65535);
  const int64_t groups = std::clamp<int64_t>(kManyThreads / total, 1, most);
  return dim3(static_cast<unsigned>(across), static_cast<unsigned>(groups));
}

// Tensors of one call in the type of sums and contiguous, kept alive for the map's pointers.
struct Inputs {
  at::Tensor flow, weight;

  Inputs(const at::Tensor& flow, const std::optional<at::Tensor>& weight)
      : flow(flow.contiguous()), weight(weight ? weight->contiguous() : at::Tensor()) {}

  template <typename Sum>
  WarpMap<Sum> map(at::ArrayRef<double> offset, bool border) const {
    return {flow.size(0), flow.size(2), flow.size(3), border, static_cast<Sum>(offset[0]),
            static_cast<Sum>(offset[1]), flow.const_data_ptr<Sum>(),
            weight.defined() ? weight.const_data_ptr<Sum>() : nullptr};
  }
};

// The planes of a tensor [N, channels, H, W] and, if it is defined, another one, [N, 1, H, W].
template <typename Number>
WarpPlanes<const Number> planes_of(const at::Tensor& numbers, const at::Tensor& covered) {
  const int64_t channels = numbers.size(1), extra = covered.defined();
  return {channels, channels + extra, numbers.size(2) * numbers.size(3),
          numbers.const_data_ptr<Number>(), extra ? covered.const_data_ptr<Number>() : nullptr};
}

// Adds with one thread per sum, in the order of memory.
template <typename Value, typename Sum>
void scatter_ordered(const WarpMap<Sum>& map, const at::Tensor& values,
                     const WarpPlanes<Sum>& sums, const at::TensorOptions& options) {
  const auto stream = at::cuda::getCurrentCUDAStream();
  const auto numbers = options.dtype(at::kLong);
  const int64_t total = map.images * map.pixels();
  const int64_t all_places = map.images * (map.height + 1) * (map.width + 1);
  at::Tensor places = at::empty({total}, numbers), shares = at::empty({total, 4}, options);
  place_kernel<Sum><<<blocks(map, 1), kThreads, 0, stream>>>(
      map, places.mutable_data_ptr<int64_t>(), shares.mutable_data_ptr<Sum>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const auto [sorted, order] = at::sort(places, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor starts = at::searchsorted(sorted, at::arange(all_places + 1, numbers));
  ordered_scatter_kernel<Value, Sum><<<blocks(map, sums.planes), kThreads, 0, stream>>>(
      map, sums, values.const_data_ptr<Value>(), shares.const_data_ptr<Sum>(),
      order.const_data_ptr<int64_t>(), starts.const_data_ptr<int64_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// Adds values [N, channels, H, W] to sums, of as many channels, and, if it is defined, to `covered`,
// [N, 1, H, W]; both are zero.
template <typename Value, typename Sum>
void scatter(const WarpMap<Sum>& map, const at::Tensor& values, const at::Tensor& sums,
             const at::Tensor& covered) {
  const int64_t channels = sums.size(1), extra = covered.defined();
  const WarpPlanes<Sum> planes = {channels, channels + extra, map.pixels(),
                                  sums.mutable_data_ptr<Sum>(),
                                  extra ? covered.mutable_data_ptr<Sum>() : nullptr};
  const bool sortable = map.images * map.pixels() <= std::numeric_limits<int32_t>::max();
  if (at::globalContext().deterministicAlgorithms() && sortable) {
    return scatter_ordered<Value, Sum>(map, values, planes, sums.options());
  }
  at::globalContext().alertNotDeterministic("mask_warp on CUDA with 2^31 pixels or more");
  scatter_kernel<Value, Sum>
      <<<blocks(map, planes.planes), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
          map, planes, values.const_data_ptr<Value>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

at::Tensor warp(const at::Tensor& mask, const at::Tensor& flow, at::ArrayRef<double> offset,
                bool border) {
  check_mask_warp(mask, flow, std::nullopt, offset);
  const c10::cuda::CUDAGuard guard(mask.device());
  at::Tensor output = at::empty(mask.sizes(), mask.options());
  if (output.numel() == 0) return output;
  const Inputs inputs(flow, std::nullopt);
  const at::Tensor field = mask.contiguous();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, mask.scalar_type(), "mask_warp", [&] {
    using sum_t = SumOf<scalar_t>;
    const auto map = inputs.map<sum_t>(offset, border);
    gather_kernel<scalar_t, scalar_t, sum_t, false>
        <<<blocks(map, mask.size(1)), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
            map, planes_of<scalar_t>(field, {}), nullptr,
            output.mutable_data_ptr<scalar_t>(), nullptr, nullptr, true);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return output;
}

std::tuple<at::Tensor, at::Tensor> warp_backward(const at::Tensor& grad_output,
                                                 const at::Tensor& mask, const at::Tensor& flow,
                                                 at::ArrayRef<double> offset, bool border,
                                                 std::array<bool, 2> needs) {
  check_mask_warp(mask, flow, std::nullopt, offset);
  check_mask_warp_gradient("_mask_warp_backward", grad_output, mask, mask.size(1));
  const c10::cuda::CUDAGuard guard(mask.device());
  at::Tensor grad_mask =
      at::zeros(needs[0] ? mask.sizes() : at::IntArrayRef({0}), flow.options());
  at::Tensor grad_flow =
      at::empty(needs[1] ? flow.sizes() : at::IntArrayRef({0}), flow.options());
  if (mask.numel() == 0) return {grad_mask.to(mask.scalar_type()), grad_flow.zero_()};
  const Inputs inputs(flow, std::nullopt);
  const at::Tensor grad = grad_output.to(mask.scalar_type()).contiguous();
  const at::Tensor field = mask.contiguous();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, mask.scalar_type(), "_mask_warp_backward", [&] {
        using sum_t = SumOf<scalar_t>;
        const auto map = inputs.map<sum_t>(offset, border);
        if (needs[0]) scatter<scalar_t, sum_t>(map, grad, grad_mask, {});
        if (needs[1]) {
          gather_kernel<scalar_t, scalar_t, sum_t, true>
              <<<blocks(map, 1), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
                  map, planes_of<scalar_t>(field, {}),
                  grad.const_data_ptr<scalar_t>(), nullptr, grad_flow.mutable_data_ptr<sum_t>(),
                  nullptr, false);
          C10_CUDA_KERNEL_LAUNCH_CHECK();
        }
      });
  return {grad_mask.to(mask.scalar_type()), grad_flow};
}

std::tuple<at::Tensor, at::Tensor> splat(const at::Tensor& mask, const at::Tensor& flow,
                                         const std::optional<at::Tensor>& weight,
                                         std::optional<double> eps, at::ArrayRef<double> offset,
                                         bool border) {
  check_mask_warp(mask, flow, weight, offset);
  const c10::cuda::CUDAGuard guard(mask.device());
  at::Tensor sums = at::zeros(mask.sizes(), flow.options());
  at::Tensor covered = empty_covered(flow, eps.has_value()).zero_();
  if (sums.numel() + covered.numel() == 0) return {sums, covered};
  const Inputs inputs(flow, weight);
  const at::Tensor values = mask.contiguous();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, mask.scalar_type(), "mask_splat", [&] {
    using sum_t = SumOf<scalar_t>;
    scatter<scalar_t, sum_t>(inputs.map<sum_t>(offset, border), values, sums,
                             eps ? covered : at::Tensor());
  });
  if (eps) sums.div_(at::where(covered > *eps, covered, *eps));
  return {sums, covered};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> splat_backward(
    const at::Tensor& grad_sums, const std::optional<at::Tensor>& grad_covered,
    const at::Tensor& mask, const at::Tensor& flow, const std::optional<at::Tensor>& weight,
    at::ArrayRef<double> offset, bool border, std::array<bool, 3> needs) {
  check_mask_warp(mask, flow, weight, offset);
  check_mask_warp_gradient("_mask_splat_backward", grad_sums, mask, mask.size(1));
  if (grad_covered) check_mask_warp_gradient("_mask_splat_backward", *grad_covered, mask, 1);
  const int64_t planes = mask.size(1) + grad_covered.has_value();
  const c10::cuda::CUDAGuard guard(mask.device());
  const at::DimVector one = {mask.size(0), 1, mask.size(2), mask.size(3)};
  const auto make = [](bool need, at::IntArrayRef sizes, const at::Tensor& like) {
    return at::empty(need ? sizes : at::IntArrayRef({0}), like.options());
  };
  at::Tensor grad_mask = make(needs[0], mask.sizes(), mask);
  at::Tensor grad_flow = make(needs[1], flow.sizes(), flow);
  at::Tensor grad_weight = make(needs[2], one, flow);
  if (planes == 0 || flow.numel() == 0) {
    return {grad_mask, grad_flow.zero_(), grad_weight.zero_()};
  }
  const Inputs inputs(flow, weight);
  const auto in_type = [&](const at::Tensor& grad) {
    return grad.to(flow.scalar_type()).contiguous();
  };
  const at::Tensor field = in_type(grad_sums);
  const at::Tensor covered = grad_covered ? in_type(*grad_covered) : at::Tensor();
  const at::Tensor values = mask.contiguous();
  const bool dots = needs[1] || needs[2];
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, mask.scalar_type(), "_mask_splat_backward", [&] {
        using sum_t = SumOf<scalar_t>;
        const auto map = inputs.map<sum_t>(offset, border);
        const auto kernel = dots ? &gather_kernel<sum_t, scalar_t, sum_t, true>
                                 : &gather_kernel<sum_t, scalar_t, sum_t, false>;
        kernel<<<blocks(map, dots ? 1 : planes), kThreads, 0,
                 at::cuda::getCurrentCUDAStream()>>>(
            map, planes_of<sum_t>(field, covered), values.const_data_ptr<scalar_t>(),
            needs[0] ? grad_mask.mutable_data_ptr<scalar_t>() : nullptr,
            needs[1] ? grad_flow.mutable_data_ptr<sum_t>() : nullptr,
            needs[2] ? grad_weight.mutable_data_ptr<sum_t>() : nullptr, false);
        C10_CUDA_KERNEL_LAUNCH_CHECK();
      });
  return {grad_mask, grad_flow, grad_weight};
}

}  // namespace

TORCH_LIBRARY_IMPL(amodal2, CUDA, m) {
  m.impl("mask_warp", &warp);
  m.impl("_mask_warp_backward", &warp_backward);
  m.impl("mask_splat", &splat);
  m.impl("_mask_splat_backward", &splat_backward);
}

}  // namespace amodal2
