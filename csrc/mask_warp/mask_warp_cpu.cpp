// Warping and splatting on the CPU: checks, division among threads.
//
// Threads share no pixel that they add to: each takes whole planes and all their pixels in order.
// So splatting is deterministic, and its results do not depend on the number of threads.
#include <ATen/ATen.h>
#include <torch/library.h>

#if defined(__GNUC__)  // the loops use vector types of GCC and Clang; elsewhere the reference runs

#include <ATen/Parallel.h>

#include <array>
#include <atomic>
#include <tuple>

#include "mask_warp/mask_warp_checks.h"
#include "mask_warp/mask_warp_loops.h"

namespace amodal2 {
namespace {

constexpr int64_t kTilesPerTask = 8;
constexpr int64_t kPixelsPerTask = 16384;
constexpr int64_t kPlanesPerGroup = 8;

template <typename T, int kBytes>
AMODAL2_INLINE bool gather_any(const WarpProblem<T>& p, int64_t begin, int64_t end) {
  const bool dots = p.grad_flow || p.grad_weight;
  if (!dots) return gather_tiles<T, kBytes, true, false>(p, begin, end);
  if (!p.sampled) return gather_tiles<T, kBytes, false, true>(p, begin, end);
  return gather_tiles<T, kBytes, true, true>(p, begin, end);
}

// One copy of the loops per number type and instruction set.
#define AMODAL2_DEFINE_LOOPS(suffix, T, bytes, target)                                     \
  target bool gather_##suffix(const WarpProblem<T>& p, int64_t begin, int64_t end) {       \
    return gather_any<T, bytes>(p, begin, end);                                            \
  }                                                                                        \
  target bool scatter_##suffix(const WarpProblem<T>& p, int64_t image, int64_t begin,      \
                               int64_t end) {                                              \
    return scatter_planes<T, bytes>(p, image, begin, end);                                 \
  }                                                                                        \
  target void average_##suffix(const WarpProblem<T>& p, T least, int64_t image,            \
                               int64_t begin, int64_t end) {                               \
    average_pixels(p, least, image, begin, end);                                           \
  }

AMODAL2_DEFINE_LOOPS(baseline, float, 16, )
AMODAL2_DEFINE_LOOPS(baseline, double, 16, )
#if defined(AMODAL2_TARGET_AVX2)
AMODAL2_DEFINE_LOOPS(avx2, float, 32, AMODAL2_TARGET_AVX2)
AMODAL2_DEFINE_LOOPS(avx2, double, 32, AMODAL2_TARGET_AVX2)
#else
constexpr auto gather_avx2 = [](const auto&... arguments) { return gather_baseline(arguments...); };
constexpr auto scatter_avx2 = [](const auto&... arguments) {
  return scatter_baseline(arguments...);
};
constexpr auto average_avx2 = [](const auto&... arguments) { average_baseline(arguments...); };
#endif

// Samples with all threads; returns whether the flow is finite.
template <typename T>
bool gather(const WarpProblem<T>& p) {
  std::atomic<bool> finite{true};
  at::parallel_for(0, p.images * p.geometry.tiles(), kTilesPerTask,
                   [&](int64_t begin, int64_t end) {
                     const bool good =
                         has_avx2() ? gather_avx2(p, begin, end) : gather_baseline(p, begin, end);
                     if (!good) finite = false;
                   });
  return finite;
}

// Adds up with all threads; returns whether the flow is finite. An image's planes are divided into
// groups that find the image's points anew: as few as keep all threads busy and leave what a group
// adds to, some rows of its planes, in the cache.
template <typename T>
bool scatter(const WarpProblem<T>& p) {
  const int64_t threads = at::get_num_threads();
  int64_t groups = (p.planes + kPlanesPerGroup - 1) / kPlanesPerGroup;
  while (groups < p.planes && p.images * groups % threads != 0 && p.images * groups < 8 * threads) {
    ++groups;
  }
  std::atomic<bool> finite{true};
  at::parallel_for(0, p.images * groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t image = index / groups, group = index % groups;
      const int64_t first = p.planes * group / groups, last = p.planes * (group + 1) / groups;
      const bool good = has_avx2() ? scatter_avx2(p, image, first, last)
                                   : scatter_baseline(p, image, first, last);
      if (!good) finite = false;
    }
  });
  return finite;
}

// Divides the sums by what is covered, with all threads.
template <typename T>
void average(const WarpProblem<T>& p, T least) {
  for (int64_t image = 0; image < p.images; ++image) {
    at::parallel_for(0, p.geometry.pixels(), kPixelsPerTask, [&](int64_t begin, int64_t end) {
      if (has_avx2()) {
        average_avx2(p, least, image, begin, end);
      } else {
        average_baseline(p, least, image, begin, end);
      }
    });
  }
}

// Tensors of one call in the type of sums and contiguous, kept alive for the problem's pointers.
struct Inputs {
  at::Tensor flow, weight;
  at::ArrayRef<double> offset;
  bool border;

  Inputs(const at::Tensor& flow, const std::optional<at::Tensor>& weight,
         at::ArrayRef<double> offset, bool border)
      : flow(flow.contiguous()),
        weight(weight ? weight->contiguous() : at::Tensor()),
        offset(offset),
        border(border) {}

  at::Tensor values(const at::Tensor& tensor) const {
    return tensor.to(flow.scalar_type()).contiguous();
  }

  template <typename T>
  WarpProblem<T> problem(const at::Tensor& mask, int64_t planes) const {
    WarpProblem<T> p{};
    p.images = mask.size(0);
    p.channels = mask.size(1);
    p.planes = planes;
    p.geometry = {mask.size(2), mask.size(3), border, static_cast<T>(offset[0]),
                  static_cast<T>(offset[1]), flow.const_data_ptr<T>(),
                  weight.defined() ? weight.const_data_ptr<T>() : nullptr};
    return p;
  }
};

void check_inputs(const at::Tensor& mask, const at::Tensor& flow,
                  const std::optional<at::Tensor>& weight, at::ArrayRef<double> offset) {
  AMODAL2_CHECK_CPU(kMaskWarp, mask);
  check_mask_warp(mask, flow, weight, offset);
  TORCH_CHECK_VALUE(mask.size(2) == 0 || mask.size(3) <= kMostPixels / mask.size(2), kMaskWarp,
                    ": expected masks of at most ", kMostPixels, " pixels, got ", mask.sizes());
}

// Raises with the first number that is not finite.
[[noreturn]] void raise_not_finite(const at::Tensor& flow) {
  const at::Tensor place = at::isfinite(flow).logical_not().nonzero()[0].contiguous();
  const at::IntArrayRef index(place.const_data_ptr<int64_t>(), flow.dim());
  at::Tensor number = flow;
  for (int64_t at : index) number = number[at];
  TORCH_CHECK_VALUE(false, kMaskWarp, ": expected flow of finite numbers, got ",
                    number.item<double>(), " at ", index);
}

at::Tensor warp(const at::Tensor& mask, const at::Tensor& flow, at::ArrayRef<double> offset,
                bool border) {
  check_inputs(mask, flow, std::nullopt, offset);
  at::Tensor output = at::empty(mask.sizes(), flow.options());
  if (output.numel() == 0) return output.to(mask.scalar_type());
  const Inputs inputs(flow, std::nullopt, offset, border);
  const at::Tensor field = inputs.values(mask);
  AT_DISPATCH_FLOATING_TYPES(output.scalar_type(), "mask_warp", [&] {
    auto p = inputs.problem<scalar_t>(mask, mask.size(1));
    p.field = field.const_data_ptr<scalar_t>();
    p.sampled = output.mutable_data_ptr<scalar_t>();
    if (!gather(p)) raise_not_finite(flow);
  });
  return output.to(mask.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> warp_backward(const at::Tensor& grad_output,
                                                 const at::Tensor& mask, const at::Tensor& flow,
                                                 at::ArrayRef<double> offset, bool border,
                                                 std::array<bool, 2> needs) {
  check_inputs(mask, flow, std::nullopt, offset);
  check_mask_warp_gradient("_mask_warp_backward", grad_output, mask, mask.size(1));
  at::Tensor grad_mask =
      at::empty(needs[0] ? mask.sizes() : at::IntArrayRef({0}), flow.options());
  at::Tensor grad_flow =
      at::empty(needs[1] ? flow.sizes() : at::IntArrayRef({0}), flow.options());
  if (mask.numel() == 0) return {grad_mask.to(mask.scalar_type()), grad_flow.zero_()};
  const Inputs inputs(flow, std::nullopt, offset, border);
  const at::Tensor grad = inputs.values(grad_output);
  const at::Tensor field = needs[1] ? inputs.values(mask) : at::Tensor();
  AT_DISPATCH_FLOATING_TYPES(flow.scalar_type(), "_mask_warp_backward", [&] {
    auto p = inputs.problem<scalar_t>(mask, mask.size(1));
    p.values = grad.const_data_ptr<scalar_t>();
    if (needs[0]) {
      p.sums = grad_mask.mutable_data_ptr<scalar_t>();
      scatter(p);
    }
    if (needs[1]) {
      p.field = field.const_data_ptr<scalar_t>();
      p.grad_flow = grad_flow.mutable_data_ptr<scalar_t>();
      gather(p);
    }
  });
  return {grad_mask.to(mask.scalar_type()), grad_flow};
}

std::tuple<at::Tensor, at::Tensor> splat(const at::Tensor& mask, const at::Tensor& flow,
                                         const std::optional<at::Tensor>& weight,
                                         std::optional<double> eps, at::ArrayRef<double> offset,
                                         bool border) {
  check_inputs(mask, flow, weight, offset);
  at::Tensor sums = at::empty(mask.sizes(), flow.options());
  at::Tensor covered = empty_covered(flow, eps.has_value());
  if (sums.numel() + covered.numel() == 0) return {sums, covered};
  const Inputs inputs(flow, weight, offset, border);
  const at::Tensor values = inputs.values(mask);
  AT_DISPATCH_FLOATING_TYPES(sums.scalar_type(), "mask_splat", [&] {
    auto p = inputs.problem<scalar_t>(mask, mask.size(1) + eps.has_value());
    p.values = values.const_data_ptr<scalar_t>();
    p.sums = sums.mutable_data_ptr<scalar_t>();
    p.covered = covered.mutable_data_ptr<scalar_t>();
    if (!scatter(p)) raise_not_finite(flow);
    if (eps) average(p, static_cast<scalar_t>(*eps));
  });
  return {sums, covered};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> splat_backward(
    const at::Tensor& grad_sums, const std::optional<at::Tensor>& grad_covered,
    const at::Tensor& mask, const at::Tensor& flow, const std::optional<at::Tensor>& weight,
    at::ArrayRef<double> offset, bool border, std::array<bool, 3> needs) {
  check_inputs(mask, flow, weight, offset);
  check_mask_warp_gradient("_mask_splat_backward", grad_sums, mask, mask.size(1));
  if (grad_covered) check_mask_warp_gradient("_mask_splat_backward", *grad_covered, mask, 1);
  const at::DimVector one = {mask.size(0), 1, mask.size(2), mask.size(3)};
  const auto make = [&](bool need, at::IntArrayRef sizes) {
    return at::empty(need ? sizes : at::IntArrayRef({0}), flow.options());
  };
  at::Tensor grad_mask = make(needs[0], mask.sizes()), grad_flow = make(needs[1], flow.sizes());
  at::Tensor grad_weight = make(needs[2], one);
  const int64_t planes = mask.size(1) + grad_covered.has_value();
  if (planes == 0 || flow.numel() == 0) {
    return {grad_mask.to(mask.scalar_type()), grad_flow.zero_(), grad_weight.zero_()};
  }
  const Inputs inputs(flow, weight, offset, border);
  const at::Tensor field = inputs.values(grad_sums);
  const at::Tensor field_covered = grad_covered ? inputs.values(*grad_covered) : at::Tensor();
  const bool dots = needs[1] || needs[2];
  const at::Tensor values = dots ? inputs.values(mask) : at::Tensor();
  AT_DISPATCH_FLOATING_TYPES(flow.scalar_type(), "_mask_splat_backward", [&] {
    auto p = inputs.problem<scalar_t>(mask, planes);
    p.field = field.const_data_ptr<scalar_t>();
    if (grad_covered) p.field_covered = field_covered.const_data_ptr<scalar_t>();
    if (dots) p.values = values.const_data_ptr<scalar_t>();
    if (needs[0]) p.sampled = grad_mask.mutable_data_ptr<scalar_t>();
    if (needs[1]) p.grad_flow = grad_flow.mutable_data_ptr<scalar_t>();
    if (needs[2]) p.grad_weight = grad_weight.mutable_data_ptr<scalar_t>();
    gather(p);
  });
  return {grad_mask.to(mask.scalar_type()), grad_flow, grad_weight};
}

}  // namespace

TORCH_LIBRARY_IMPL(amodal2, CPU, m) {
  m.impl("mask_warp", &warp);
  m.impl("_mask_warp_backward", &warp_backward);
  m.impl("mask_splat", &splat);
  m.impl("_mask_splat_backward", &splat_backward);
}

}  // namespace amodal2

#endif
