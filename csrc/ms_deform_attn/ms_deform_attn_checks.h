// What the CPU and CUDA kernels of multi-scale deformable attention demand of their arguments.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <limits>

#include "common/checks.h"

namespace amodal2 {

// Row numbers are kept in 32 bits.
constexpr int64_t kMostRows = std::numeric_limits<int32_t>::max();

// Raises unless the arguments fit together; on which kind of device they lie is the caller's check.
inline void check_ms_deform_attn(const at::Tensor& value, at::IntArrayRef shapes,
                                 const at::Tensor& sampling_locations,
                                 const at::Tensor& attention_weights) {
  constexpr const char* kName = "ms_deform_attn";
  AMODAL2_CHECK_SAME_DEVICE(kName, sampling_locations, value);
  AMODAL2_CHECK_SAME_DEVICE(kName, attention_weights, value);
  AMODAL2_CHECK_RANK(kName, value, 4, "[B, S, M, D]");
  AMODAL2_CHECK_RANK(kName, sampling_locations, 6, "[B, Q, M, L, P, 2]");
  TORCH_CHECK_VALUE(shapes.size() % 2 == 0 && !shapes.empty(), kName,
                    ": expected spatial_shapes as (height, width) pairs, got ", shapes);
  const int64_t levels = static_cast<int64_t>(shapes.size()) / 2;
  AMODAL2_CHECK_SIZES(kName, sampling_locations,
                      at::IntArrayRef({value.size(0), sampling_locations.size(1), value.size(2),
                                       levels, sampling_locations.size(4), 2}));
  AMODAL2_CHECK_SIZES(kName, attention_weights, sampling_locations.sizes().slice(0, 5));
  const at::ScalarType type = value.scalar_type();
  TORCH_CHECK_TYPE(
      type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf,
      kName, ": expected value of type float32, float64, bfloat16, float16, got ", type);
  const at::ScalarType sums = type == at::kDouble ? at::kDouble : at::kFloat;
  AMODAL2_CHECK_DTYPE(kName, sampling_locations, sums);
  AMODAL2_CHECK_DTYPE(kName, attention_weights, sums);
  int64_t length = 0;
  for (int64_t level = 0; level < levels; ++level) {
    const int64_t height = shapes[2 * level], width = shapes[2 * level + 1];
    TORCH_CHECK_VALUE(height > 0 && width > 0 && height < kMostRows / width, kName,
                      ": expected positive spatial_shapes with fewer than ", kMostRows,
                      " positions, got ", shapes);
    length += height * width;
  }
  TORCH_CHECK_VALUE(length == value.size(1) && length < kMostRows, kName, ": expected value with ",
                    length, " positions (and fewer than ", kMostRows, ") for spatial_shapes ",
                    shapes, ", got ", value.size(1));
}

// The same for the backward pass.
inline void check_ms_deform_attn_backward(const at::Tensor& grad_output, const at::Tensor& value,
                                          at::IntArrayRef shapes,
                                          const at::Tensor& sampling_locations,
                                          const at::Tensor& attention_weights) {
  check_ms_deform_attn(value, shapes, sampling_locations, attention_weights);
  AMODAL2_CHECK_SAME_DEVICE("_ms_deform_attn_backward", grad_output, value);
  AMODAL2_CHECK_SIZES(
      "_ms_deform_attn_backward", grad_output,
      at::IntArrayRef({value.size(0), sampling_locations.size(1), value.size(2) * value.size(3)}));
}

}  // namespace amodal2
