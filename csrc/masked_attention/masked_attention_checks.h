// The argument checks that the CPU and the CUDA kernels share.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "common/checks.h"

namespace amodal2 {

inline void check_attention(const at::Tensor& query, const at::Tensor& key,
                            const at::Tensor& value,
                            const std::optional<at::Tensor>& allow_or_none) {
  constexpr const char* kName = "masked_attention";
  AMODAL2_CHECK_SAME_DEVICE(kName, key, query);
  AMODAL2_CHECK_SAME_DEVICE(kName, value, query);
  TORCH_CHECK_TYPE(at::isFloatingType(query.scalar_type()), kName,
                   ": expected query of a floating type, got ", query.scalar_type());
  AMODAL2_CHECK_DTYPE(kName, key, query.scalar_type());
  AMODAL2_CHECK_DTYPE(kName, value, query.scalar_type());
  AMODAL2_CHECK_RANK(kName, query, 4, "[B, Q, M, D]");
  AMODAL2_CHECK_RANK(kName, key, 4, "[B, S, M, D]");
  const int64_t keys = key.size(1);
  AMODAL2_CHECK_SIZES(kName, key,
                      at::IntArrayRef({query.size(0), keys, query.size(2), query.size(3)}));
  AMODAL2_CHECK_SIZES(kName, value, key.sizes());
  if (!allow_or_none.has_value()) return;
  const at::Tensor& allow = *allow_or_none;
  AMODAL2_CHECK_SAME_DEVICE(kName, allow, query);
  AMODAL2_CHECK_RANK(kName, allow, 3, "[B, Q, P]");
  AMODAL2_CHECK_DTYPE(kName, allow, at::kBool);
  const int64_t period = allow.size(2);
  AMODAL2_CHECK_SIZES(kName, allow, at::IntArrayRef({query.size(0), query.size(1), period}));
  TORCH_CHECK_VALUE(period == keys || (period > 0 && keys % period == 0), kName,
                    ": expected allow for ", keys,
                    " keys or a divisor of them, got one for ", period);
}

// The type in which sums are kept.
inline at::ScalarType sum_type(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// Checks what the backward pass takes besides.
inline void check_attention_gradient(const at::Tensor& grad_output, const at::Tensor& query,
                                     const at::Tensor& output, const at::Tensor& logsumexp) {
  constexpr const char* kName = "_masked_attention_backward";
  AMODAL2_CHECK_SAME_DEVICE(kName, grad_output, query);
  AMODAL2_CHECK_SAME_DEVICE(kName, output, query);
  AMODAL2_CHECK_SAME_DEVICE(kName, logsumexp, query);
  AMODAL2_CHECK_SIZES(kName, grad_output, query.sizes());
  AMODAL2_CHECK_SIZES(kName, output, query.sizes());
  AMODAL2_CHECK_SIZES(kName, logsumexp, query.sizes().slice(0, 3));
  AMODAL2_CHECK_DTYPE(kName, logsumexp, sum_type(query));
}

}  // namespace amodal2
