// Checks that the kernels of both devices make before they touch memory.
#pragma once

#include <ATen/ATen.h>

#include "common/checks.h"

namespace amodal2 {

constexpr const char* kMaskWarp = "mask_warp";

// Raises unless `tensor` has `channels` channels, the type of sums and the device of the mask.
inline void check_mask_warp_field(const char* label, const at::Tensor& tensor,
                                  const at::Tensor& mask, int64_t channels) {
  const at::DimVector expected = {mask.size(0), channels, mask.size(2), mask.size(3)};
  TORCH_CHECK_VALUE(tensor.sizes() == at::IntArrayRef(expected), kMaskWarp, ": expected ", label,
                    " of sizes ", at::IntArrayRef(expected), ", got ", tensor.sizes());
  const auto sums = mask.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK_TYPE(tensor.scalar_type() == sums, kMaskWarp, ": expected ", label, " of type ", sums,
                   ", got ", tensor.scalar_type());
  TORCH_CHECK_VALUE(tensor.device() == mask.device(), kMaskWarp, ": expected ", label, " on ",
                    mask.device(), " like mask, got it on ", tensor.device());
}

inline void check_mask_warp(const at::Tensor& mask, const at::Tensor& flow,
                            const std::optional<at::Tensor>& weight, at::ArrayRef<double> offset) {
  AMODAL2_CHECK_RANK(kMaskWarp, mask, 4, "[N, C, H, W]");
  const auto type = mask.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kDouble || type == at::kBFloat16 ||
                       type == at::kHalf,
                   kMaskWarp, ": expected mask of type float32, float64, bfloat16, float16, got ",
                   type);
  TORCH_CHECK_VALUE(offset.size() == 2, kMaskWarp, ": expected offset (x, y), got ", offset);
  check_mask_warp_field("flow", flow, mask, 2);
  if (weight) check_mask_warp_field("weight", *weight, mask, 1);
}

// Raises unless a gradient has the sizes and the device of what it is the gradient of.
inline void check_mask_warp_gradient(const char* op, const at::Tensor& grad,
                                     const at::Tensor& mask, int64_t channels) {
  const at::DimVector expected = {mask.size(0), channels, mask.size(2), mask.size(3)};
  AMODAL2_CHECK_SIZES(op, grad, at::IntArrayRef(expected));
  TORCH_CHECK_VALUE(grad.device() == mask.device(), op, ": expected grad on ", mask.device(),
                    " like mask, got it on ", grad.device());
}

// Room for what lands at each pixel, [N, 1, H, W], none if it is not wanted.
inline at::Tensor empty_covered(const at::Tensor& flow, bool wanted) {
  const at::DimVector one = {flow.size(0), 1, flow.size(2), flow.size(3)};
  return at::empty(wanted ? at::IntArrayRef(one) : at::IntArrayRef({0}), flow.options());
}

}  // namespace amodal2
