// The loops of multi-scale deformable attention on the CPU, forward and backward.
//
// Values are packed head by head into rows of whole vectors, [B, M, S + 1, D padded to kRowBytes];
// the last row stays zero and stands for every corner outside a level, so that no inner loop
// branches. The four corners of all samples form a list of rows: the forward pass is a weighted sum
// over it, the backward pass a dot product with and an addition to each row.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/bilinear.h"
#include "common/simd.h"

namespace amodal2 {

// Rows of a packed tensor are whole multiples of this, and so whole vectors of any width.
constexpr int64_t kRowBytes = 64;

// Rows of a list are handled in groups of up to 16, so samples, with 4 rows each, in groups of 4.
constexpr int64_t kSampleGroup = 4;
constexpr int64_t kMostLanes = 16;

// Everything one call needs; pointers are to contiguous tensors of T.
template <typename T>
struct Problem {
  typedef typename Vector<T, 16>::Integer Integer;

  int64_t batch, length, heads, depth, queries, samples;  // samples = L * P
  int64_t padded_depth, padded_samples;
  int64_t group_heads;  // heads that are worked on together
  std::vector<Integer> heights, widths, starts;  // levels of the samples of a group, see SampleList
  const T* value;  // packed
  const T* locations;
  const T* weights;
  T* output;
  const T* grad_output;
  T* grad_value;  // packed
  T* grad_locations;
  T* grad_weights;

  // Number of a head within the whole batch: where its rows of packed tensors are.
  int64_t packed_head(int64_t image, int64_t head) const { return image * heads + head; }

  // Number of a query and head: where its samples, weights and outputs are.
  int64_t item(int64_t image, int64_t query, int64_t head) const {
    return (image * queries + query) * heads + head;
  }
};

// The samples of one query and a group of heads, each head's padded with points that are far
// outside. Rows, their weights and dot products are listed by corner (top left, top right, bottom
// left, bottom right), then by head. All lists have room for one more vector, so that the last one
// may be whole.
template <typename T>
struct SampleList {
  explicit SampleList(const Problem<T>& p)
      : stride(p.group_heads * p.padded_samples),
        points(2 * (stride + kMostLanes), kFarOutside),
        attention(stride + kMostLanes, T(0)),
        fractions_x(attention),
        fractions_y(attention),
        rows(4 * stride + kMostLanes, 0),
        weights(rows.size(), T(0)),
        dots(weights) {}

  static constexpr T kFarOutside = T(-9);
  int64_t stride;  // between corners
  std::vector<T> points, attention, fractions_x, fractions_y;
  std::vector<typename Problem<T>::Integer> rows;
  std::vector<T> weights, dots;
};

// Copies `heads` runs of `count` numbers between places that are `from_step` and `to_step` apart.
template <typename T>
AMODAL2_INLINE void copy_runs(const T* from, int64_t from_step, T* to, int64_t to_step,
                              int64_t count, int64_t heads) {
  if (from_step == to_step) {
    std::memcpy(to, from, sizeof(T) * count * heads);
    return;
  }
  for (int64_t head = 0; head < heads; ++head) {
    std::memcpy(to + head * to_step, from + head * from_step, sizeof(T) * count);
  }
}

// In the functions below kBytes is the width of a vector and kBlocks the number of vectors per row,
// 0 if it is only known at run time.

// Fills the list for `heads` heads whose samples begin at `item`.
template <typename T, int kBytes>
AMODAL2_INLINE void fill_list(const Problem<T>& p, int64_t item, int64_t heads,
                              SampleList<T>& list) {
  typedef typename Vector<T, kBytes>::type V;
  typedef typename Vector<T, kBytes>::Integers I;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>();
  const int64_t samples = p.samples, stride = list.stride;
  const I outside = I{} + static_cast<typename Problem<T>::Integer>(p.length);
  copy_runs(p.locations + item * samples * 2, samples * 2, list.points.data(),
            p.padded_samples * 2, samples * 2, heads);
  copy_runs(p.weights + item * samples, samples, list.attention.data(), p.padded_samples, samples,
            heads);
  // From the last vector to the first, since the last overruns into the next corner's list.
  for (int64_t k = (stride - 1) / kLanes * kLanes; k >= 0; k -= kLanes) {
    const V pairs0 = load_vector<V>(&list.points[2 * k]);
    const V pairs1 = load_vector<V>(&list.points[2 * k + kLanes]);
    const I width = load_vector<I>(&p.widths[k]);
    const auto x =
        split_axis<T, kBytes>(shuffle<T, kBytes>(pairs0, pairs1, alternate_lanes<0>(kAll)), width);
    const auto y = split_axis<T, kBytes>(
        shuffle<T, kBytes>(pairs0, pairs1, alternate_lanes<1>(kAll)),
        load_vector<I>(&p.heights[k]));
    const V attention = load_vector<V>(&list.attention[k]);
    const I row = load_vector<I>(&p.starts[k]) + y.low * width + x.low;
    const V bottom = y.fraction * attention, top = attention - bottom;
    const V top_right = top * x.fraction, bottom_right = bottom * x.fraction;
    store_vector(&list.rows[k], y.low_in & x.low_in ? row : outside);
    store_vector(&list.rows[stride + k], y.low_in & x.high_in ? row + 1 : outside);
    store_vector(&list.rows[2 * stride + k], y.high_in & x.low_in ? row + width : outside);
    store_vector(&list.rows[3 * stride + k], y.high_in & x.high_in ? row + width + 1 : outside);
    store_vector(&list.weights[k], top - top_right);
    store_vector(&list.weights[stride + k], top_right);
    store_vector(&list.weights[2 * stride + k], bottom - bottom_right);
    store_vector(&list.weights[3 * stride + k], bottom_right);
    store_vector(&list.fractions_x[k], x.fraction);
    store_vector(&list.fractions_y[k], y.fraction);
  }
}

// Writes the weighted sum of the rows of samples `first` ... of the list, all of one head.
template <typename T, int kBytes, int kBlocks>
AMODAL2_INLINE void sum_rows(const Problem<T>& p, const T* value, const SampleList<T>& list,
                             int64_t first, T* output) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int64_t kLanes = Vector<T, kBytes>::kLanes;
  constexpr int kChains = kBlocks == 1 ? 4 : kBlocks == 2 ? 2 : 1;  // sums that run side by side
  const int64_t stride = list.stride;
  const auto* rows = list.rows.data() + first;
  const T* weights = list.weights.data() + first;
  if constexpr (kBlocks > 0) {
    V sums[kChains][kBlocks] = {};
    for (int64_t k = 0; k < p.samples; ++k) {
      for (int corner = 0; corner < 4; ++corner) {
        const int64_t at = corner * stride + k;
        const V* row = reinterpret_cast<const V*>(value + rows[at] * (kBlocks * kLanes));
        for (int block = 0; block < kBlocks; ++block) {
          sums[corner % kChains][block] += row[block] * weights[at];
        }
      }
    }
    for (int chain = 1; chain < kChains; ++chain) {
      for (int block = 0; block < kBlocks; ++block) sums[0][block] += sums[chain][block];
    }
    std::memcpy(output, sums[0], sizeof(T) * p.depth);
  } else {
    for (int64_t start = 0; start < p.depth; start += kLanes) {
      V sum = {};
      for (int64_t k = 0; k < p.samples; ++k) {
        for (int64_t at = k; at < 4 * stride; at += stride) {
          sum += *reinterpret_cast<const V*>(value + rows[at] * p.padded_depth + start) *
              weights[at];
        }
      }
      std::memcpy(output + start, &sum, sizeof(T) * std::min(kLanes, p.depth - start));
    }
  }
}

// Works through queries of the batch, from `begin` to `end`, with all heads.
template <typename T, int kBytes, int kBlocks>
AMODAL2_INLINE void forward_queries(const Problem<T>& p, int64_t begin, int64_t end) {
  const int64_t head_size = (p.length + 1) * p.padded_depth;
  SampleList<T> list(p);
  for (int64_t index = begin; index < end; ++index) {
    const int64_t image = index / p.queries;
    const int64_t item = p.item(image, index % p.queries, 0);
    fill_list<T, kBytes>(p, item, p.heads, list);
    for (int64_t head = 0; head < p.heads; ++head) {
      const T* value = p.value + p.packed_head(image, head) * head_size;
      T* output = p.output + (item + head) * p.depth;
      sum_rows<T, kBytes, kBlocks>(p, value, list, head * p.padded_samples, output);
    }
  }
}

// Multiplies rows with `grad` and adds up their lanes as far as a tree of kCount leaves goes. Leaf
// j is corner j / 4 of sample j % 4 in `rows`.
template <typename T, int kBytes, int kBlocks, int kFirst, int kCount>
AMODAL2_INLINE typename Vector<T, kBytes>::type dot_rows(
    const T* value, const typename Problem<T>::Integer* rows, int64_t stride,
    const typename Vector<T, kBytes>::type* grad, int64_t row_size) {
  typedef typename Vector<T, kBytes>::type V;
  if constexpr (kCount == 1) {
    const int64_t row_number = rows[kFirst / 4 * stride + kFirst % 4];
    const V* row = reinterpret_cast<const V*>(value + row_number * row_size);
    const int64_t blocks = kBlocks ? kBlocks : row_size / Vector<T, kBytes>::kLanes;
    V sum = row[0] * grad[0];
    for (int64_t block = 1; block < blocks; ++block) sum += row[block] * grad[block];
    return sum;
  } else {
    constexpr int kHalf = kCount / 2;
    return pair_sums<T, kBytes, kCount>(
        dot_rows<T, kBytes, kBlocks, kFirst, kHalf>(value, rows, stride, grad, row_size),
        dot_rows<T, kBytes, kBlocks, kFirst + kHalf, kHalf>(value, rows, stride, grad, row_size));
  }
}

// Writes the 16 dot products of 4 samples, as many at a time as a vector has lanes.
template <typename T, int kBytes, int kBlocks, int kFirst = 0>
AMODAL2_INLINE void store_dots(const T* value, const typename Problem<T>::Integer* rows, T* dots,
                               int64_t stride, const typename Vector<T, kBytes>::type* grad,
                               int64_t row_size) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes, kRun = kLanes < 4 ? kLanes : 4;
  const auto sums =
      dot_rows<T, kBytes, kBlocks, kFirst, kLanes>(value, rows, stride, grad, row_size);
  for (int lane = 0; lane < kLanes; lane += kRun) {
    const int leaf = kFirst + lane;
    std::memcpy(dots + leaf / 4 * stride + leaf % 4,
                reinterpret_cast<const char*>(&sums) + lane * sizeof(T), kRun * sizeof(T));
  }
  if constexpr (kFirst + kLanes < 16) {
    store_dots<T, kBytes, kBlocks, kFirst + kLanes>(value, rows, dots, stride, grad, row_size);
  }
}

// Turns the dot products of the corners into the gradients of locations and weights.
template <typename T, int kBytes>
AMODAL2_INLINE void store_sample_grads(const Problem<T>& p, int64_t item, int64_t heads,
                                       const SampleList<T>& list, T* grad_points,
                                       T* grad_attention) {
  typedef typename Vector<T, kBytes>::type V;
  typedef typename Vector<T, kBytes>::Integers I;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>();
  const int64_t samples = p.samples, stride = list.stride;
  for (int64_t k = 0; k < stride; k += kLanes) {
    const V x = load_vector<V>(&list.fractions_x[k]), y = load_vector<V>(&list.fractions_y[k]);
    const V top_left = load_vector<V>(&list.dots[k]);
    const V top_right = load_vector<V>(&list.dots[stride + k]);
    const V bottom_left = load_vector<V>(&list.dots[2 * stride + k]);
    const V bottom_right = load_vector<V>(&list.dots[3 * stride + k]);
    const V attention = load_vector<V>(&list.attention[k]);
    const V top_step = top_right - top_left, bottom_step = bottom_right - bottom_left;
    const V top = top_left + x * top_step, bottom = bottom_left + x * bottom_step;
    const V extent_x = __builtin_convertvector(load_vector<I>(&p.widths[k]), V);
    const V extent_y = __builtin_convertvector(load_vector<I>(&p.heights[k]), V);
    const V by_x = (top_step + y * (bottom_step - top_step)) * attention * extent_x;
    const V by_y = (bottom - top) * attention * extent_y;
    store_vector(grad_attention + k, top + y * (bottom - top));
    store_vector(grad_points + 2 * k, shuffle<T, kBytes>(by_x, by_y, interleaved_lanes<0>(kAll)));
    store_vector(grad_points + 2 * k + kLanes,
                 shuffle<T, kBytes>(by_x, by_y, interleaved_lanes<kLanes / 2>(kAll)));
  }
  copy_runs(grad_points, p.padded_samples * 2, p.grad_locations + item * samples * 2, samples * 2,
            samples * 2, heads);
  copy_runs(grad_attention, p.padded_samples, p.grad_weights + item * samples, samples, samples,
            heads);
}

// Works through groups of heads of the batch, from `begin` to `end`, with all queries.
template <typename T, int kBytes, int kBlocks>
AMODAL2_INLINE void backward_groups(const Problem<T>& p, int64_t begin, int64_t end) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int64_t kLanes = Vector<T, kBytes>::kLanes;
  const int64_t row_size = kBlocks ? kBlocks * kLanes : p.padded_depth;
  const int64_t blocks = kBlocks ? kBlocks : row_size / kLanes;
  const int64_t groups = (p.heads + p.group_heads - 1) / p.group_heads;
  SampleList<T> list(p);
  const int64_t stride = list.stride;
  std::vector<T> grad_points(list.points.size()), grad_attention(list.attention.size());
  V fixed_grad[kBlocks ? kBlocks : 1] = {};
  V* grad = fixed_grad;
  at::Tensor buffer;
  if constexpr (kBlocks == 0) {
    buffer = at::zeros({row_size}, c10::CppTypeToScalarType<T>::value);
    grad = reinterpret_cast<V*>(buffer.mutable_data_ptr<T>());
  }
  for (int64_t group = begin; group < end; ++group) {
    const int64_t image = group / groups, first_head = group % groups * p.group_heads;
    const int64_t heads = std::min(p.group_heads, p.heads - first_head);
    const int64_t packed_start =
        p.packed_head(image, first_head) * (p.length + 1) * row_size;
    for (int64_t query = 0; query < p.queries; ++query) {
      const int64_t item = p.item(image, query, first_head);
      fill_list<T, kBytes>(p, item, heads, list);
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t start = packed_start + head * (p.length + 1) * row_size;
        const int64_t first = head * p.padded_samples;
        std::memcpy(grad, p.grad_output + (item + head) * p.depth, sizeof(T) * p.depth);
        for (int64_t k = first; k < first + p.samples; k += kSampleGroup) {
          store_dots<T, kBytes, kBlocks>(p.value + start, &list.rows[k], &list.dots[k], stride,
                                         grad, row_size);
        }
        for (int64_t k = first; k < first + p.samples; ++k) {
          for (int64_t at = k; at < 4 * stride; at += stride) {
            V* row = reinterpret_cast<V*>(p.grad_value + start + list.rows[at] * row_size);
            const T weight = list.weights[at];
            for (int64_t block = 0; block < blocks; ++block) row[block] += grad[block] * weight;
          }
        }
      }
      store_sample_grads<T, kBytes>(p, item, heads, list, grad_points.data(),
                                    grad_attention.data());
    }
  }
}

}  // namespace amodal2
