// Multi-scale deformable attention on the CPU: forward and backward in float and double.
//
// Values are packed head by head into rows of whole vectors, [B, M, S + 1, D padded]; the last row
// stays zero and stands for every corner outside a level, so that no inner loop branches. The
// corners of all points of a query and head form one list of rows: the forward pass is a weighted
// sum over it, the backward pass a dot product with and an addition to each row. Threads share no
// row in the backward pass (they divide the heads of the batch), so it is deterministic.
#include <ATen/ATen.h>
#include <torch/library.h>

#if defined(__GNUC__)  // the kernels use vector types of GCC and Clang; elsewhere the reference runs

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include "common/bilinear.h"
#include "common/checks.h"
#include "common/simd.h"

namespace amodal2 {
namespace {

// Rows are handled in groups of this size, one per lane of a float vector.
constexpr int64_t kGroup = 16;

// Everything one call needs; pointers are to contiguous tensors of T.
template <typename T>
struct Problem {
  int64_t batch, length, heads, depth, queries, samples;  // samples = L * P
  int64_t padded_depth, padded_samples;
  const int32_t* heights;  // of the level of each sample
  const int32_t* widths;
  const int32_t* starts;
  const T* value;  // packed
  const T* locations;
  const T* weights;
  T* output;
  const T* grad_output;
  T* grad_value;  // packed
  T* grad_locations;
  T* grad_weights;
};

// Row lists of one query and head, corner by corner, each padded with the zero row.
template <typename T>
struct RowList {
  explicit RowList(const Problem<T>& p)
      : rows(4 * p.padded_samples, static_cast<int32_t>(p.length)),
        weights(4 * p.padded_samples, T(0)),
        fractions_x(p.padded_samples, T(0)),
        fractions_y(p.padded_samples, T(0)),
        dots(4 * p.padded_samples, T(0)) {}

  std::vector<int32_t> rows;
  std::vector<T> weights, fractions_x, fractions_y, dots;
};

template <typename T>
AMODAL2_INLINE void fill_rows(const Problem<T>& p, int64_t item, RowList<T>& list) {
  const int64_t samples = p.samples, stride = p.padded_samples;
  const T* __restrict__ points = p.locations + item * samples * 2;
  const T* __restrict__ attention = p.weights + item * samples;
  const int32_t* __restrict__ heights = p.heights;
  const int32_t* __restrict__ widths = p.widths;
  const int32_t* __restrict__ starts = p.starts;
  const int32_t outside = static_cast<int32_t>(p.length);
  int32_t* __restrict__ rows = list.rows.data();
  T* __restrict__ weights = list.weights.data();
  T* __restrict__ fractions_x = list.fractions_x.data();
  T* __restrict__ fractions_y = list.fractions_y.data();
#pragma GCC ivdep
  for (int64_t k = 0; k < samples; ++k) {
    const BilinearSample<T> sample = locate_bilinear<T>(
        points[2 * k], points[2 * k + 1], heights[k], widths[k], starts[k], outside);
    const T right = sample.fraction_x, left = T(1) - right;
    const T bottom = sample.fraction_y * attention[k], top = attention[k] - bottom;
    rows[k] = sample.row00;
    rows[stride + k] = sample.row01;
    rows[2 * stride + k] = sample.row10;
    rows[3 * stride + k] = sample.row11;
    weights[k] = top * left;
    weights[stride + k] = top * right;
    weights[2 * stride + k] = bottom * left;
    weights[3 * stride + k] = bottom * right;
    fractions_x[k] = sample.fraction_x;
    fractions_y[k] = sample.fraction_y;
  }
}

// kBlocks is the number of vectors per row, 0 if it is only known at run time.
template <typename T, int kBlocks>
AMODAL2_INLINE void forward_items(const Problem<T>& p, int64_t begin, int64_t end) {
  typedef typename Vector<T>::type V;
  constexpr int64_t kLanes = Vector<T>::kLanes;
  const int64_t row_size = kBlocks ? kBlocks * kLanes : p.padded_depth;
  const int64_t count = 4 * p.padded_samples;
  RowList<T> list(p);
  for (int64_t index = begin; index < end; ++index) {
    const int64_t head = index / p.queries;  // of the batch
    const int64_t query = index % p.queries;
    const int64_t item =
        (head / p.heads * p.queries + query) * p.heads + head % p.heads;
    fill_rows(p, item, list);
    const T* value = p.value + head * (p.length + 1) * row_size;
    const int32_t* rows = list.rows.data();
    const T* weights = list.weights.data();
    T* output = p.output + item * p.depth;
    if constexpr (kBlocks > 0) {
      V sums[kBlocks] = {};
      for (int64_t r = 0; r < count; ++r) {
        const V* row = reinterpret_cast<const V*>(value + rows[r] * row_size);
        for (int block = 0; block < kBlocks; ++block) sums[block] += row[block] * weights[r];
      }
      std::memcpy(output, sums, sizeof(T) * p.depth);
    } else {
      for (int64_t start = 0; start < p.depth; start += kLanes) {
        V sum = {};
        for (int64_t r = 0; r < count; ++r) {
          sum += *reinterpret_cast<const V*>(value + rows[r] * row_size + start) * weights[r];
        }
        std::memcpy(output + start, &sum, sizeof(T) * std::min(kLanes, p.depth - start));
      }
    }
  }
}

// Returns the products of `kCount` rows with `grad`, reduced as far as their tree goes.
template <typename T, int kBlocks, int kCount>
AMODAL2_INLINE typename Vector<T>::type dot_rows(
    const T* value, const int32_t* rows, const typename Vector<T>::type* grad, int64_t row_size) {
  typedef typename Vector<T>::type V;
  if constexpr (kCount == 1) {
    const V* row = reinterpret_cast<const V*>(value + rows[0] * row_size);
    const int64_t blocks = kBlocks ? kBlocks : row_size / Vector<T>::kLanes;
    V sum = row[0] * grad[0];
    for (int64_t block = 1; block < blocks; ++block) sum += row[block] * grad[block];
    return sum;
  } else {
    const V first = dot_rows<T, kBlocks, kCount / 2>(value, rows, grad, row_size);
    const V second =
        dot_rows<T, kBlocks, kCount / 2>(value, rows + kCount / 2, grad, row_size);
    return pair_sum<kCount>(first, second);
  }
}

// Turns the dot products of the corners into the gradients of locations and weights.
template <typename T>
AMODAL2_INLINE void finish_grads(const Problem<T>& p, int64_t item, const RowList<T>& list) {
  const int64_t stride = p.padded_samples;
  const T* __restrict__ dots = list.dots.data();
  const T* __restrict__ attention = p.weights + item * p.samples;
  T* __restrict__ grad_points = p.grad_locations + item * p.samples * 2;
  T* __restrict__ grad_attention = p.grad_weights + item * p.samples;
  for (int64_t k = 0; k < p.samples; ++k) {
    const T right = list.fractions_x[k], left = T(1) - right;
    const T bottom = list.fractions_y[k], top = T(1) - bottom;
    const T d00 = dots[k], d01 = dots[stride + k];
    const T d10 = dots[2 * stride + k], d11 = dots[3 * stride + k];
    grad_attention[k] = top * (left * d00 + right * d01) + bottom * (left * d10 + right * d11);
    const T by_x = top * (d01 - d00) + bottom * (d11 - d10);
    const T by_y = left * (d10 - d00) + right * (d11 - d01);
    grad_points[2 * k] = by_x * attention[k] * static_cast<T>(p.widths[k]);
    grad_points[2 * k + 1] = by_y * attention[k] * static_cast<T>(p.heights[k]);
  }
}

// Works through whole heads of the batch, from `begin` to `end`.
template <typename T, int kBlocks>
AMODAL2_INLINE void backward_heads(const Problem<T>& p, int64_t begin, int64_t end) {
  typedef typename Vector<T>::type V;
  constexpr int64_t kLanes = Vector<T>::kLanes;
  const int64_t row_size = kBlocks ? kBlocks * kLanes : p.padded_depth;
  const int64_t blocks = kBlocks ? kBlocks : row_size / kLanes;
  const int64_t count = 4 * p.padded_samples;
  RowList<T> list(p);
  V fixed_grad[kBlocks ? kBlocks : 1] = {};
  V* grad = fixed_grad;
  at::Tensor buffer;
  if constexpr (kBlocks == 0) {
    buffer = at::zeros({row_size}, c10::CppTypeToScalarType<T>::value);
    grad = reinterpret_cast<V*>(buffer.mutable_data_ptr<T>());
  }
  for (int64_t head = begin; head < end; ++head) {
    const T* value = p.value + head * (p.length + 1) * row_size;
    T* grad_value = p.grad_value + head * (p.length + 1) * row_size;
    for (int64_t query = 0; query < p.queries; ++query) {
      const int64_t item =
          (head / p.heads * p.queries + query) * p.heads + head % p.heads;
      fill_rows(p, item, list);
      std::memcpy(grad, p.grad_output + item * p.depth, sizeof(T) * p.depth);
      const int32_t* rows = list.rows.data();
      const T* weights = list.weights.data();
      for (int64_t r = 0; r < count; r += kLanes) {
        const V dots = dot_rows<T, kBlocks, kLanes>(value, rows + r, grad, row_size);
        std::memcpy(list.dots.data() + r, &dots, sizeof(V));
      }
      for (int64_t r = 0; r < count; ++r) {
        V* row = reinterpret_cast<V*>(grad_value + rows[r] * row_size);
        for (int64_t block = 0; block < blocks; ++block) row[block] += grad[block] * weights[r];
      }
      finish_grads(p, item, list);
    }
  }
}

template <typename T>
AMODAL2_INLINE void forward_any(const Problem<T>& p, int64_t begin, int64_t end) {
  switch (p.padded_depth / Vector<T>::kLanes) {
    case 1: return forward_items<T, 1>(p, begin, end);
    case 2: return forward_items<T, 2>(p, begin, end);
    default: return forward_items<T, 0>(p, begin, end);
  }
}

template <typename T>
AMODAL2_INLINE void backward_any(const Problem<T>& p, int64_t begin, int64_t end) {
  switch (p.padded_depth / Vector<T>::kLanes) {
    case 1: return backward_heads<T, 1>(p, begin, end);
    case 2: return backward_heads<T, 2>(p, begin, end);
    default: return backward_heads<T, 0>(p, begin, end);
  }
}

// One copy of the loops per number type and instruction set.
#define AMODAL2_DEFINE_LOOPS(suffix, target)                                            \
  target void forward_##suffix(const Problem<float>& p, int64_t begin, int64_t end) {   \
    forward_any(p, begin, end);                                                         \
  }                                                                                     \
  target void forward_##suffix(const Problem<double>& p, int64_t begin, int64_t end) {  \
    forward_any(p, begin, end);                                                         \
  }                                                                                     \
  target void backward_##suffix(const Problem<float>& p, int64_t begin, int64_t end) {  \
    backward_any(p, begin, end);                                                        \
  }                                                                                     \
  target void backward_##suffix(const Problem<double>& p, int64_t begin, int64_t end) { \
    backward_any(p, begin, end);                                                        \
  }

AMODAL2_DEFINE_LOOPS(baseline, )
#if defined(AMODAL2_TARGET_AVX2)
AMODAL2_DEFINE_LOOPS(avx2, AMODAL2_TARGET_AVX2)
AMODAL2_DEFINE_LOOPS(avx512, AMODAL2_TARGET_AVX512)
#endif

template <typename T>
void forward_range(const Problem<T>& p, int64_t begin, int64_t end) {
#if defined(AMODAL2_TARGET_AVX2)
  if (simd_level() == SimdLevel::kAvx512) return forward_avx512(p, begin, end);
  if (simd_level() == SimdLevel::kAvx2) return forward_avx2(p, begin, end);
#endif
  forward_baseline(p, begin, end);
}

template <typename T>
void backward_range(const Problem<T>& p, int64_t begin, int64_t end) {
#if defined(AMODAL2_TARGET_AVX2)
  if (simd_level() == SimdLevel::kAvx512) return backward_avx512(p, begin, end);
  if (simd_level() == SimdLevel::kAvx2) return backward_avx2(p, begin, end);
#endif
  backward_baseline(p, begin, end);
}

// Per sample, in the order of the last axes of the locations: its level's size and first position.
struct Levels {
  std::vector<int32_t> heights, widths, starts;
};

Levels check_inputs(const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
                    const at::Tensor& weights) {
  constexpr const char* kName = "ms_deform_attn";
  AMODAL2_CHECK_CPU(kName, value);
  AMODAL2_CHECK_CPU(kName, locations);
  AMODAL2_CHECK_CPU(kName, weights);
  AMODAL2_CHECK_RANK(kName, value, 4, "[B, S, M, D]");
  AMODAL2_CHECK_RANK(kName, locations, 6, "[B, Q, M, L, P, 2]");
  const int64_t levels = static_cast<int64_t>(shapes.size()) / 2;
  const int64_t queries = locations.size(1), points = locations.size(4);
  AMODAL2_CHECK_SIZES(kName, locations,
                      at::IntArrayRef({value.size(0), queries, value.size(2), levels, points, 2}));
  AMODAL2_CHECK_SIZES(kName, weights, locations.sizes().slice(0, 5));
  const auto type =
      value.scalar_type() == at::kDouble ? at::ScalarType::Double : at::ScalarType::Float;
  AMODAL2_CHECK_DTYPE(kName, locations, type);
  AMODAL2_CHECK_DTYPE(kName, weights, type);
  TORCH_CHECK(value.size(1) < std::numeric_limits<int32_t>::max(), kName,
              ": expected fewer than 2^31 - 1 positions, got ", value.size(1));
  Levels result;
  int64_t start = 0;
  for (int64_t level = 0; level < levels; ++level) {
    const int64_t height = shapes[2 * level], width = shapes[2 * level + 1];
    TORCH_CHECK(height > 0 && width > 0, kName, ": expected positive spatial_shapes, got ", shapes);
    result.heights.insert(result.heights.end(), points, static_cast<int32_t>(height));
    result.widths.insert(result.widths.end(), points, static_cast<int32_t>(width));
    result.starts.insert(result.starts.end(), points, static_cast<int32_t>(start));
    start += height * width;
    TORCH_CHECK(start <= value.size(1), kName, ": expected value with the ", "positions of ",
                shapes, ", got only ", value.size(1));
  }
  TORCH_CHECK(shapes.size() % 2 == 0 && start == value.size(1), kName, ": expected value with ",
              start, " positions for spatial_shapes ", shapes, ", got ", value.size(1));
  return result;
}

template <typename T>
Problem<T> make_problem(const at::Tensor& value, const Levels& levels, const at::Tensor& packed,
                        const at::Tensor& locations, const at::Tensor& weights) {
  Problem<T> p{};
  p.batch = value.size(0);
  p.length = value.size(1);
  p.heads = value.size(2);
  p.depth = value.size(3);
  p.queries = locations.size(1);
  p.samples = locations.size(3) * locations.size(4);
  p.padded_depth = packed.size(3);
  p.padded_samples = (p.samples + kGroup / 4 - 1) / (kGroup / 4) * (kGroup / 4);
  p.heights = levels.heights.data();
  p.widths = levels.widths.data();
  p.starts = levels.starts.data();
  p.value = packed.const_data_ptr<T>();
  p.locations = locations.const_data_ptr<T>();
  p.weights = weights.const_data_ptr<T>();
  return p;
}

// Returns zeros [B, M, S + 1, D padded to whole vectors] for the sums of a value tensor's type.
at::Tensor make_packed(const at::Tensor& value, const at::Tensor& locations) {
  const int64_t lanes = kVectorBytes / static_cast<int64_t>(locations.element_size());
  const int64_t depth = (value.size(3) + lanes - 1) / lanes * lanes;
  return at::zeros({value.size(0), value.size(2), value.size(1) + 1, depth}, locations.options());
}

// Views the part of a packed tensor that holds values, as [B, S, M, D].
at::Tensor packed_values(const at::Tensor& packed, const at::Tensor& value) {
  return packed.narrow(2, 0, value.size(1)).narrow(3, 0, value.size(3)).permute({0, 2, 1, 3});
}

at::Tensor forward(const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
                   const at::Tensor& weights) {
  const Levels levels = check_inputs(value, shapes, locations, weights);
  const int64_t queries = locations.size(1), width = value.size(2) * value.size(3);
  at::Tensor output = at::empty({value.size(0), queries, width}, locations.options());
  if (output.numel() == 0) return output.to(value.scalar_type());
  at::Tensor packed = make_packed(value, locations);
  packed_values(packed, value).copy_(value);
  const at::Tensor points = locations.contiguous(), attention = weights.contiguous();
  AT_DISPATCH_FLOATING_TYPES(output.scalar_type(), "ms_deform_attn", [&] {
    Problem<scalar_t> p = make_problem<scalar_t>(value, levels, packed, points, attention);
    p.output = output.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, p.batch * p.heads * p.queries, 64,
                     [&](int64_t begin, int64_t end) { forward_range(p, begin, end); });
  });
  return output.to(value.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad_output, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights) {
  const Levels levels = check_inputs(value, shapes, locations, weights);
  AMODAL2_CHECK_SIZES(
      "_ms_deform_attn_backward", grad_output,
      at::IntArrayRef({value.size(0), locations.size(1), value.size(2) * value.size(3)}));
  at::Tensor grad_locations = at::zeros(locations.sizes(), locations.options());
  at::Tensor grad_weights = at::zeros(weights.sizes(), weights.options());
  if (grad_output.numel() == 0) {
    return {at::zeros(value.sizes(), value.options()), grad_locations, grad_weights};
  }
  at::Tensor packed = make_packed(value, locations), packed_grad = make_packed(value, locations);
  packed_values(packed, value).copy_(value);
  const at::Tensor points = locations.contiguous(), attention = weights.contiguous();
  const at::Tensor grad = grad_output.to(locations.scalar_type()).contiguous();
  AT_DISPATCH_FLOATING_TYPES(points.scalar_type(), "_ms_deform_attn_backward", [&] {
    Problem<scalar_t> p = make_problem<scalar_t>(value, levels, packed, points, attention);
    p.grad_output = grad.const_data_ptr<scalar_t>();
    p.grad_value = packed_grad.mutable_data_ptr<scalar_t>();
    p.grad_locations = grad_locations.mutable_data_ptr<scalar_t>();
    p.grad_weights = grad_weights.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, p.batch * p.heads, 1,
                     [&](int64_t begin, int64_t end) { backward_range(p, begin, end); });
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
