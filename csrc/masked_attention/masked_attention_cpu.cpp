// Masked attention on the CPU: checks, preparation of the tensors, division among threads.
//
// The results do not depend on the number of threads.
#include <ATen/ATen.h>
#include <torch/library.h>

#if defined(__GNUC__)  // the loops use vector types of GCC and Clang; elsewhere the reference runs

#include <ATen/Parallel.h>

#include <optional>
#include <tuple>

#include "masked_attention/masked_attention_backward.h"
#include "masked_attention/masked_attention_checks.h"
#include "masked_attention/masked_attention_forward.h"

namespace amodal2 {
namespace {

template <typename T, int kBytes, bool kBackward>
AMODAL2_INLINE void work_on_units(const Attention<T>& a, int64_t begin, int64_t end) {
  constexpr int64_t kLanes = Vector<T, kBytes>::kLanes;
  for (int64_t index = begin; index < end; ++index) {
    const Unit unit = make_unit(a, index, kTileVectors * kLanes);
    if constexpr (kBackward) {
      backward_unit<T, kBytes>(a, unit);
    } else {
      forward_unit<T, kBytes>(a, unit);
    }
  }
}

// One copy of the loops per number type and instruction set.
#define AMODAL2_DEFINE_LOOPS(suffix, bytes, target)                                       \
  target void forward_##suffix(const Attention<float>& a, int64_t begin, int64_t end) {   \
    work_on_units<float, bytes, false>(a, begin, end);                                    \
  }                                                                                       \
  target void forward_##suffix(const Attention<double>& a, int64_t begin, int64_t end) {  \
    work_on_units<double, bytes, false>(a, begin, end);                                   \
  }                                                                                       \
  target void backward_##suffix(const Attention<float>& a, int64_t begin, int64_t end) {  \
    work_on_units<float, bytes, true>(a, begin, end);                                     \
  }                                                                                       \
  target void backward_##suffix(const Attention<double>& a, int64_t begin, int64_t end) { \
    work_on_units<double, bytes, true>(a, begin, end);                                    \
  }

AMODAL2_DEFINE_LOOPS(baseline, 16, )
#if defined(AMODAL2_TARGET_AVX2)
AMODAL2_DEFINE_LOOPS(avx2, 32, AMODAL2_TARGET_AVX2)
#else
constexpr auto forward_avx2 = [](const auto& a, int64_t begin, int64_t end) {
  forward_baseline(a, begin, end);
};
constexpr auto backward_avx2 = [](const auto& a, int64_t begin, int64_t end) {
  backward_baseline(a, begin, end);
};
#endif

// Returns the tensor in the type of the sums, the last dimension dense and padded to whole rows.
at::Tensor prepare_rows(const at::Tensor& tensor, at::ScalarType type) {
  const int64_t lanes = kRowBytes / static_cast<int64_t>(c10::elementSize(type));
  const int64_t missing = (lanes - tensor.size(3) % lanes) % lanes;
  at::Tensor rows = tensor.to(type);
  if (missing) rows = at::constant_pad_nd(rows, {0, missing});
  return rows.stride(3) == 1 ? rows : rows.contiguous();
}

template <typename T>
Rows<const T> view_rows(const at::Tensor& rows) {
  return {rows.const_data_ptr<T>(), rows.stride(0), rows.stride(1), rows.stride(2)};
}

template <typename T>
Rows<T> view_mutable_rows(const at::Tensor& rows) {
  return {rows.mutable_data_ptr<T>(), rows.stride(0), rows.stride(1), rows.stride(2)};
}

// The prepared tensors of a call; queries are scaled to exponents of two.
struct Prepared {
  at::Tensor query, key, value;
  PackedMask mask;

  Prepared(const at::Tensor& query_in, const at::Tensor& key_in, const at::Tensor& value_in,
           const std::optional<at::Tensor>& allow, double scale, at::ScalarType type)
      : query(prepare_rows(query_in, type).mul(scale / kLn2).contiguous()),
        key(prepare_rows(key_in, type)),
        value(prepare_rows(value_in, type)) {
    std::optional<at::Tensor> dense;
    if (allow.has_value()) dense = allow->contiguous();
    mask = pack_mask(dense, query.size(0), query.size(1),
                     allow.has_value() ? allow->size(2) : key.size(1));
  }

  template <typename T>
  Attention<T> describe() const {
    Attention<T> a{};
    a.batch = query.size(0);
    a.queries = query.size(1);
    a.keys = key.size(1);
    a.heads = query.size(2);
    a.depth = query.size(3);
    a.mask = &mask;
    a.query = query.const_data_ptr<T>();
    a.key = view_rows<T>(key);
    a.value = view_rows<T>(value);
    // As few groups of heads as keep all threads busy, since the heads of a key lie side by side.
    const int64_t threads = at::get_num_threads();
    int64_t groups = 1;
    while (groups < a.heads && a.batch * groups % threads != 0) ++groups;
    a.group_heads = (a.heads + groups - 1) / groups;
    a.parts = 1;
    return a;
  }
};

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& query, const at::Tensor& key,
                                           const at::Tensor& value,
                                           const std::optional<at::Tensor>& allow, double scale) {
  check_attention(query, key, value, allow);
  const at::ScalarType type = sum_type(query);
  const at::TensorOptions options = query.options().dtype(type);
  at::Tensor logsumexp = at::empty(query.sizes().slice(0, 3), options);
  if (query.numel() == 0 || key.numel() == 0) {
    logsumexp.fill_(-std::numeric_limits<double>::infinity());
    return {at::zeros(query.sizes(), query.options()), logsumexp};
  }
  const Prepared prepared(query, key, value, allow, scale, type);
  at::Tensor output = at::empty(prepared.query.sizes(), options);
  AT_DISPATCH_FLOATING_TYPES(type, "masked_attention", [&] {
    Attention<scalar_t> a = prepared.describe<scalar_t>();
    a.output = output.mutable_data_ptr<scalar_t>();
    a.logsumexp = logsumexp.mutable_data_ptr<scalar_t>();
    if (a.heads_share_rows()) a.group_heads = a.heads;
    a.parts = std::clamp<int64_t>(at::get_num_threads() / (a.batch * a.groups()), 1, a.queries);
    at::parallel_for(0, a.units(), 1, [&](int64_t begin, int64_t end) {
      return has_avx2() ? forward_avx2(a, begin, end) : forward_baseline(a, begin, end);
    });
  });
  output = output.narrow(3, 0, query.size(3)).to(query.scalar_type()).contiguous();
  return {output, logsumexp};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad_output, const at::Tensor& query, const at::Tensor& key,
    const at::Tensor& value, const std::optional<at::Tensor>& allow, const at::Tensor& output,
    const at::Tensor& logsumexp, double scale) {
  check_attention(query, key, value, allow);
  const at::ScalarType type = sum_type(query);
  check_attention_gradient(grad_output, query, output, logsumexp);
  if (query.numel() == 0 || key.numel() == 0) {
    return {at::zeros(query.sizes(), query.options()), at::zeros(key.sizes(), key.options()),
            at::zeros(value.sizes(), value.options())};
  }
  const Prepared prepared(query, key, value, allow, scale, type);
  const at::Tensor grad = prepare_rows(grad_output, type).contiguous();
  const at::Tensor delta = (grad_output.to(type) * output.to(type)).sum(3).contiguous();
  at::Tensor exponents = logsumexp.div(kLn2).contiguous();
  at::Tensor grad_query = at::zeros(prepared.query.sizes(), grad.options());
  at::Tensor grad_key = at::zeros(prepared.key.sizes(), grad.options());
  at::Tensor grad_value = at::zeros(prepared.value.sizes(), grad.options());
  AT_DISPATCH_FLOATING_TYPES(type, "_masked_attention_backward", [&] {
    Attention<scalar_t> a = prepared.describe<scalar_t>();
    a.logsumexp = exponents.mutable_data_ptr<scalar_t>();
    a.grad_output = grad.const_data_ptr<scalar_t>();
    a.delta = delta.const_data_ptr<scalar_t>();
    a.grad_query = grad_query.mutable_data_ptr<scalar_t>();
    a.grad_key = view_mutable_rows<scalar_t>(grad_key);
    a.grad_value = view_mutable_rows<scalar_t>(grad_value);
    at::parallel_for(0, a.units(), 1, [&](int64_t begin, int64_t end) {
      return has_avx2() ? backward_avx2(a, begin, end) : backward_baseline(a, begin, end);
    });
  });
  const auto finish = [&](const at::Tensor& padded) {
    return padded.narrow(3, 0, query.size(3)).to(query.scalar_type()).contiguous();
  };
  return {finish(grad_query.mul_(scale / kLn2)), finish(grad_key), finish(grad_value)};
}

}  // namespace

TORCH_LIBRARY_IMPL(amodal2, CPU, m) {
  m.impl("masked_attention", &forward);
  m.impl("_masked_attention_backward", &backward);
}

}  // namespace amodal2

#endif
