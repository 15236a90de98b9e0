// Multi-scale deformable attention on the CPU: checks, packing, division among threads.
//
// Threads share no row in the backward pass: each takes whole heads and all their queries in
// order. So it is deterministic, and its results do not depend on the number of threads.
#include <ATen/ATen.h>
#include <torch/library.h>

#if defined(__GNUC__)  // the loops use vector types of GCC and Clang; elsewhere the reference runs

#include <ATen/Parallel.h>

#include <tuple>

#include "ms_deform_attn/ms_deform_attn_checks.h"
#include "ms_deform_attn/ms_deform_attn_loops.h"

namespace amodal2 {
namespace {

template <typename T, int kBytes>
AMODAL2_INLINE void forward_any(const Problem<T>& p, int64_t begin, int64_t end) {
  constexpr int kBlocks = kRowBytes / kBytes;
  switch (p.padded_depth * sizeof(T) / kRowBytes) {
    case 1:
      return forward_queries<T, kBytes, kBlocks>(p, begin, end);
    case 2:
      return forward_queries<T, kBytes, 2 * kBlocks>(p, begin, end);
    default:
      return forward_queries<T, kBytes, 0>(p, begin, end);
  }
}

template <typename T, int kBytes>
AMODAL2_INLINE void backward_any(const Problem<T>& p, int64_t begin, int64_t end) {
  constexpr int kBlocks = kRowBytes / kBytes;
  switch (p.padded_depth * sizeof(T) / kRowBytes) {
    case 1:
      return backward_groups<T, kBytes, kBlocks>(p, begin, end);
    case 2:
      return backward_groups<T, kBytes, 2 * kBlocks>(p, begin, end);
    default:
      return backward_groups<T, kBytes, 0>(p, begin, end);
  }
}

// One copy of the loops per number type and instruction set.
#define AMODAL2_DEFINE_LOOPS(suffix, bytes, target)                                     \
  target void forward_##suffix(const Problem<float>& p, int64_t begin, int64_t end) {   \
    forward_any<float, bytes>(p, begin, end);                                           \
  }                                                                                     \
  target void forward_##suffix(const Problem<double>& p, int64_t begin, int64_t end) {  \
    forward_any<double, bytes>(p, begin, end);                                          \
  }                                                                                     \
  target void backward_##suffix(const Problem<float>& p, int64_t begin, int64_t end) {  \
    backward_any<float, bytes>(p, begin, end);                                          \
  }                                                                                     \
  target void backward_##suffix(const Problem<double>& p, int64_t begin, int64_t end) { \
    backward_any<double, bytes>(p, begin, end);                                         \
  }

AMODAL2_DEFINE_LOOPS(baseline, 16, )
#if defined(AMODAL2_TARGET_AVX2)
// 512-bit vectors were not faster: the loops wait for memory.
AMODAL2_DEFINE_LOOPS(avx2, 32, AMODAL2_TARGET_AVX2)
#else
constexpr auto forward_avx2 = [](const auto& p, int64_t begin, int64_t end) {
  forward_baseline(p, begin, end);
};
constexpr auto backward_avx2 = [](const auto& p, int64_t begin, int64_t end) {
  backward_baseline(p, begin, end);
};
#endif

constexpr const char* kName = "ms_deform_attn";

template <typename T>
Problem<T> make_problem(const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& packed,
                        const at::Tensor& locations, const at::Tensor& weights,
                        int64_t group_heads) {
  typedef typename Problem<T>::Integer Integer;
  Problem<T> p{};
  p.batch = value.size(0);
  p.length = value.size(1);
  p.heads = value.size(2);
  p.depth = value.size(3);
  p.queries = locations.size(1);
  const int64_t points = locations.size(4);
  p.samples = locations.size(3) * points;
  p.padded_depth = packed.size(3);
  p.padded_samples = (p.samples + kSampleGroup - 1) / kSampleGroup * kSampleGroup;
  p.group_heads = group_heads;
  for (int64_t head = 0; head < group_heads; ++head) {
    Integer start = 0;
    for (size_t level = 0; level < shapes.size(); level += 2) {
      const Integer height = shapes[level], width = shapes[level + 1];
      p.heights.insert(p.heights.end(), points, height);
      p.widths.insert(p.widths.end(), points, width);
      p.starts.insert(p.starts.end(), points, start);
      start += height * width;
    }
    const size_t size = (head + 1) * p.padded_samples + (head + 1 == group_heads ? kMostLanes : 0);
    for (auto* list : {&p.heights, &p.widths, &p.starts}) list->resize(size, 1);
  }
  p.value = packed.const_data_ptr<T>();
  p.locations = locations.const_data_ptr<T>();
  p.weights = weights.const_data_ptr<T>();
  return p;
}

// Returns zeros [B, M, S + 1, D padded to kRowBytes] for the sums of a value tensor's type.
at::Tensor make_packed(const at::Tensor& value, const at::Tensor& locations) {
  const int64_t lanes = kRowBytes / static_cast<int64_t>(locations.element_size());
  const int64_t depth = (value.size(3) + lanes - 1) / lanes * lanes;
  return at::zeros({value.size(0), value.size(2), value.size(1) + 1, depth}, locations.options());
}

// Views the part of a packed tensor that holds values, as [B, S, M, D].
at::Tensor packed_values(const at::Tensor& packed, const at::Tensor& value) {
  return packed.narrow(2, 0, value.size(1)).narrow(3, 0, value.size(3)).permute({0, 2, 1, 3});
}

at::Tensor forward(const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
                   const at::Tensor& weights) {
  AMODAL2_CHECK_CPU(kName, value);
  check_ms_deform_attn(value, shapes, locations, weights);
  const int64_t queries = locations.size(1), width = value.size(2) * value.size(3);
  if (locations.numel() == 0) return at::zeros({value.size(0), queries, width}, value.options());
  at::Tensor output = at::empty({value.size(0), queries, width}, locations.options());
  if (output.numel() == 0) return output.to(value.scalar_type());
  at::Tensor packed = make_packed(value, locations);
  packed_values(packed, value).copy_(value);
  const at::Tensor points = locations.contiguous(), attention = weights.contiguous();
  AT_DISPATCH_FLOATING_TYPES(output.scalar_type(), "ms_deform_attn", [&] {
    Problem<scalar_t> p =
        make_problem<scalar_t>(value, shapes, packed, points, attention, value.size(2));
    p.output = output.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, p.batch * p.queries, 8, [&](int64_t begin, int64_t end) {
      return has_avx2() ? forward_avx2(p, begin, end) : forward_baseline(p, begin, end);
    });
  });
  return output.to(value.scalar_type());
}

// Returns how many heads a thread works on together in the backward pass: as many as possible,
// since a query's data lie side by side, but few enough for equal work on all threads. The results
// do not depend on it.
int64_t choose_group_heads(int64_t batch, int64_t heads) {
  const int64_t threads = at::get_num_threads();
  int64_t groups = 1;
  while (groups < heads && batch * groups % threads != 0 && batch * groups < 8 * threads) ++groups;
  return (heads + groups - 1) / groups;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& grad_output,
                                                        const at::Tensor& value,
                                                        at::IntArrayRef shapes,
                                                        const at::Tensor& locations,
                                                        const at::Tensor& weights) {
  AMODAL2_CHECK_CPU(kName, value);
  check_ms_deform_attn_backward(grad_output, value, shapes, locations, weights);
  at::Tensor grad_locations = at::zeros(locations.sizes(), locations.options());
  at::Tensor grad_weights = at::zeros(weights.sizes(), weights.options());
  if (grad_output.numel() == 0 || locations.numel() == 0) {
    return {at::zeros(value.sizes(), value.options()), grad_locations, grad_weights};
  }
  at::Tensor packed = make_packed(value, locations), packed_grad = make_packed(value, locations);
  packed_values(packed, value).copy_(value);
  const at::Tensor points = locations.contiguous(), attention = weights.contiguous();
  const at::Tensor grad = grad_output.to(locations.scalar_type()).contiguous();
  const int64_t group_heads = choose_group_heads(value.size(0), value.size(2));
  const int64_t groups = (value.size(2) + group_heads - 1) / group_heads;
  AT_DISPATCH_FLOATING_TYPES(points.scalar_type(), "_ms_deform_attn_backward", [&] {
    Problem<scalar_t> p =
        make_problem<scalar_t>(value, shapes, packed, points, attention, group_heads);
    p.grad_output = grad.const_data_ptr<scalar_t>();
    p.grad_value = packed_grad.mutable_data_ptr<scalar_t>();
    p.grad_locations = grad_locations.mutable_data_ptr<scalar_t>();
    p.grad_weights = grad_weights.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, p.batch * groups, 1, [&](int64_t begin, int64_t end) {
      return has_avx2() ? backward_avx2(p, begin, end) : backward_baseline(p, begin, end);
    });
  });
  at::Tensor grad_value = at::empty(value.sizes(), value.options());
  grad_value.copy_(packed_values(packed_grad, value));
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace

TORCH_LIBRARY_IMPL(amodal2, CPU, m) {
  m.impl("ms_deform_attn", &forward);
  m.impl("_ms_deform_attn_backward", &backward);
}

}  // namespace amodal2

#endif
