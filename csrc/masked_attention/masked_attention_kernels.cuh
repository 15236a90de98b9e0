// The CUDA kernels of masked attention.
//
// A block takes a tile of 16 queries, four per warp. Keys are taken 32 at a time, one per lane, which
// is also one word of the mask's bits per query; a tile of keys that no query of the block allows is
// not even loaded. All sums are of type `Sum`, float or double.
#pragma once

#include <cmath>
#include <cstdint>

namespace amodal2 {
namespace attention_cuda {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kTileQueries = 16;
constexpr int kWarpQueries = kTileQueries / kWarps;
constexpr int kTileKeys = 32;
constexpr int kPad = 4;  // numbers between rows of keys: reads of four by 8 lanes hit all banks once
constexpr int kPackThreads = 256;
constexpr unsigned kAllLanes = 0xffffffffu;

// Element (image, row, head, d) of a tensor [B, N, M, D] with a dense last dimension.
template <typename T>
struct Rows {
  T* data;
  int64_t image_step, row_step, head_step;

  __device__ T* at(int64_t image, int64_t row, int64_t head) const {
    return data + image * image_step + row * row_step + head * head_step;
  }
};

struct Sizes {
  int64_t batch, queries, keys, heads, depth;
  int64_t period, words;  // keys of the mask, words of 32 of them
  int64_t splits;         // parts of the keys

  __host__ __device__ int64_t query_tiles() const {
    return (queries + kTileQueries - 1) / kTileQueries;
  }
  __host__ __device__ int64_t key_tiles() const { return keys / period * words; }
  __host__ __device__ int64_t items() const { return batch * queries * heads; }
  __device__ int64_t item(int64_t image, int64_t query, int64_t head) const {
    return (image * queries + query) * heads + head;
  }
  // First key of a tile; tiles begin anew in every period.
  __device__ int64_t first_key(int64_t tile) const {
    return tile / words * period + tile % words * kTileKeys;
  }
};

// Four numbers that are read at once.
template <typename Sum>
struct alignas(4 * sizeof(Sum)) Four {
  Sum x[4];
};

// Packs one row of the mask per block; rows that allow nothing allow everything. No mask at all
// (null) is such a row.
__global__ void __launch_bounds__(kPackThreads)
    pack_rows(const bool* allow, uint32_t* bits, int64_t period, int64_t words) {
  const int lane = threadIdx.x % 32;
  uint32_t* row = bits + blockIdx.x * words;
  bool any = false;
  if (allow != nullptr) {
    const bool* source = allow + blockIdx.x * period;
    for (int64_t word = threadIdx.x / 32; word < words; word += kPackThreads / 32) {
      const int64_t key = 32 * word + lane;
      const uint32_t ballot = __ballot_sync(kAllLanes, key < period && source[key]);
      if (lane == 0) row[word] = ballot;
      any |= ballot != 0;
    }
  }
  if (__syncthreads_or(any)) return;
  for (int64_t word = threadIdx.x; word < words; word += kPackThreads) {
    const int64_t left = period - 32 * word;
    row[word] = left < 32 ? (1u << left) - 1 : ~0u;
  }
}

// Loads the rows of keys whose bit is set in `some` into [kTileKeys, kDepth + kPad], zeros elsewhere.
template <typename T, typename Sum, int kDepth>
__device__ void load_keys(const Rows<const T>& rows, const Sizes& n, int64_t image, int64_t head,
                          int64_t first_key, uint32_t some, Sum* tile) {
  for (int index = threadIdx.x; index < kTileKeys * kDepth; index += kThreads) {
    const int key = index / kDepth, d = index % kDepth;
    const bool inside = (some >> key & 1) && d < n.depth;
    tile[key * (kDepth + kPad) + d] =
        inside ? static_cast<Sum>(rows.at(image, first_key + key, head)[d]) : Sum(0);
  }
}

// Loads a tile of queries times `factor` into [kTileQueries, kDepth], zeros elsewhere.
template <typename T, typename Sum, int kDepth>
__device__ void load_queries(const Rows<const T>& rows, const Sizes& n, int64_t image,
                             int64_t head, int64_t first_query, Sum factor, Sum* tile) {
  for (int index = threadIdx.x; index < kTileQueries * kDepth; index += kThreads) {
    const int row = index / kDepth, d = index % kDepth;
    const bool inside = first_query + row < n.queries && d < n.depth;
    tile[index] = inside ? static_cast<Sum>(rows.at(image, first_query + row, head)[d]) * factor
                         : Sum(0);
  }
}

// Dot products of this lane's row of keys with the warp's rows of queries.
template <typename Sum, int kDepth>
__device__ void multiply_rows(const Sum* keys, const Sum* queries, Sum (&dots)[kWarpQueries]) {
  const Sum* key = keys + threadIdx.x % 32 * (kDepth + kPad);
  const Sum* query = queries + threadIdx.x / 32 * kWarpQueries * kDepth;
#pragma unroll
  for (int j = 0; j < kWarpQueries; ++j) dots[j] = 0;
#pragma unroll 4
  for (int d = 0; d < kDepth; d += 4) {
    const Four<Sum> right = *reinterpret_cast<const Four<Sum>*>(key + d);
#pragma unroll
    for (int j = 0; j < kWarpQueries; ++j) {
      const Four<Sum> left = *reinterpret_cast<const Four<Sum>*>(query + j * kDepth + d);
#pragma unroll
      for (int i = 0; i < 4; ++i) dots[j] += left.x[i] * right.x[i];
    }
  }
}

// Adds the rows of keys times the weights that the lanes hold; lane and column make d.
template <typename Sum, int kDepth>
__device__ void add_rows(const Sum* keys, uint32_t some, const Sum (&weights)[kWarpQueries],
                         Sum (&sums)[kWarpQueries][kDepth / 32]) {
  const int lane = threadIdx.x % 32;
  for (; some != 0; some &= some - 1) {
    const int key = __ffs(some) - 1;
    Sum row[kDepth / 32];
#pragma unroll
    for (int c = 0; c < kDepth / 32; ++c) row[c] = keys[key * (kDepth + kPad) + lane + 32 * c];
#pragma unroll
    for (int j = 0; j < kWarpQueries; ++j) {
      const Sum weight = __shfl_sync(kAllLanes, weights[j], key);
#pragma unroll
      for (int c = 0; c < kDepth / 32; ++c) sums[j][c] += weight * row[c];
    }
  }
}

// Reads the words of the warp's queries for a tile of keys and returns their union.
__device__ inline uint32_t read_words(const uint32_t* bits, const Sizes& n, int64_t image,
                                      int64_t first_query, int64_t word,
                                      uint32_t (&words)[kWarpQueries]) {
  const int64_t query = first_query + threadIdx.x / 32 * kWarpQueries;
  uint32_t some = 0;
#pragma unroll
  for (int j = 0; j < kWarpQueries; ++j) {
    const bool inside = query + j < n.queries;
    words[j] = inside ? bits[(image * n.queries + query + j) * n.words + word] : 0;
    some |= words[j];
  }
  return some;
}

// Writes the union of the tile's queries for each of `count` tiles of keys.
__device__ inline void unite_words(const uint32_t* bits, const Sizes& n, int64_t image,
                                   int64_t first_query, int64_t first_tile, int64_t count,
                                   uint32_t* unions) {
  for (int64_t index = threadIdx.x; index < count; index += kThreads) {
    const int64_t word = (first_tile + index) % n.words;
    uint32_t some = 0;
    for (int64_t query = first_query; query < min(first_query + kTileQueries, n.queries); ++query) {
      some |= bits[(image * n.queries + query) * n.words + word];
    }
    unions[index] = some;
  }
}

// What a block of the forward pass and of the query gradients works on.
struct Place {
  int64_t split, head, first_query, image, begin, end;  // begin, end: tiles of keys

  __device__ Place(const Sizes& n) {
    int64_t index = blockIdx.x;
    split = index % n.splits;
    index /= n.splits;
    head = index % n.heads;
    index /= n.heads;
    first_query = index % n.query_tiles() * kTileQueries;
    image = index / n.query_tiles();
    begin = n.key_tiles() * split / n.splits;
    end = n.key_tiles() * (split + 1) / n.splits;
  }
};

template <typename Sum>
__device__ Sum largest_of_warp(Sum x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = max(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

template <typename Sum>
__device__ Sum sum_of_warp(Sum x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

// Running maximum, sum (of this lane's keys) and output of the warp's queries.
template <typename Sum, int kDepth>
struct Running {
  Sum largest[kWarpQueries], total[kWarpQueries], output[kWarpQueries][kDepth / 32];
};

// Turns scores into weights with an online softmax.
template <typename Sum, int kDepth>
__device__ void soften(const uint32_t (&words)[kWarpQueries], Sum (&scores)[kWarpQueries],
                       Running<Sum, kDepth>& running) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < kWarpQueries; ++j) {
    if (words[j] == 0) {
      scores[j] = 0;
      continue;
    }
    const bool allowed = words[j] >> lane & 1;
    const Sum top = largest_of_warp(allowed ? scores[j] : -Sum(INFINITY));
    const Sum largest = max(running.largest[j], top);
    // If all scores so far are -inf, their differences would be NaN and stay in the sums.
    const Sum reference = largest > -Sum(INFINITY) ? largest : Sum(0);
    const Sum shrink = exp(running.largest[j] - reference);
    scores[j] = allowed ? exp(scores[j] - reference) : Sum(0);
    running.largest[j] = largest;
    running.total[j] = running.total[j] * shrink + scores[j];
#pragma unroll
    for (int c = 0; c < kDepth / 32; ++c) running.output[j][c] *= shrink;
  }
}

// Attends to one part of the keys. Writes, per part and item, maximum, sum and undivided output.
template <typename T, typename Sum, int kDepth>
__global__ void __launch_bounds__(kThreads)
    attend(Rows<const T> query, Rows<const T> key, Rows<const T> value, const uint32_t* bits,
           Sizes n, Sum scale, Sum* maxima, Sum* totals, Sum* outputs) {
  extern __shared__ __align__(32) unsigned char memory[];
  Sum* keys = reinterpret_cast<Sum*>(memory);
  Sum* values = keys + kTileKeys * (kDepth + kPad);
  Sum* queries = values + kTileKeys * (kDepth + kPad);
  __shared__ uint32_t unions[kThreads];
  const Place at(n);
  load_queries<T, Sum, kDepth>(query, n, at.image, at.head, at.first_query, scale, queries);
  Running<Sum, kDepth> running;
#pragma unroll
  for (int j = 0; j < kWarpQueries; ++j) {
    running.largest[j] = -Sum(INFINITY);
    running.total[j] = 0;
#pragma unroll
    for (int c = 0; c < kDepth / 32; ++c) running.output[j][c] = 0;
  }
  for (int64_t chunk = at.begin; chunk < at.end; chunk += kThreads) {
    const int64_t count = min(int64_t(kThreads), at.end - chunk);
    __syncthreads();
    unite_words(bits, n, at.image, at.first_query, chunk, count, unions);
    __syncthreads();
    for (int64_t index = 0; index < count; ++index) {
      if (unions[index] == 0) continue;
      const int64_t tile = chunk + index, first = n.first_key(tile);
      load_keys<T, Sum, kDepth>(key, n, at.image, at.head, first, unions[index], keys);
      load_keys<T, Sum, kDepth>(value, n, at.image, at.head, first, unions[index], values);
      __syncthreads();
      uint32_t words[kWarpQueries];
      const uint32_t some =
          read_words(bits, n, at.image, at.first_query, tile % n.words, words);
      if (some) {
        Sum scores[kWarpQueries];
        multiply_rows<Sum, kDepth>(keys, queries, scores);
        soften<Sum, kDepth>(words, scores, running);
        add_rows<Sum, kDepth>(values, some, scores, running.output);
      }
      __syncthreads();
    }
  }
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < kWarpQueries; ++j) {
    const int64_t row = at.first_query + threadIdx.x / 32 * kWarpQueries + j;
    const Sum total = sum_of_warp(running.total[j]);
    if (row >= n.queries) continue;
    const int64_t item = at.split * n.items() + n.item(at.image, row, at.head);
    if (lane == 0) {
      maxima[item] = running.largest[j];
      totals[item] = total;
    }
#pragma unroll
    for (int c = 0; c < kDepth / 32; ++c) {
      const int d = lane + 32 * c;
      if (d < n.depth) outputs[item * n.depth + d] = running.output[j][c];
    }
  }
}

// Puts the parts together, one item per warp.
template <typename T, typename Sum>
__global__ void __launch_bounds__(kThreads)
    combine(const Sum* maxima, const Sum* totals, const Sum* outputs, Sizes n, T* output,
            Sum* logsumexp) {
  const int64_t item = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (item >= n.items()) return;
  const int lane = threadIdx.x % 32;
  Sum largest = -Sum(INFINITY), total = 0;
  for (int64_t at = item; at < n.splits * n.items(); at += n.items()) {
    largest = max(largest, maxima[at]);
  }
  for (int64_t at = item; at < n.splits * n.items(); at += n.items()) {
    if (totals[at] != 0) total += totals[at] * exp(maxima[at] - largest);
  }
  for (int64_t d = lane; d < n.depth; d += 32) {
    Sum sum = 0;
    for (int64_t at = item; at < n.splits * n.items(); at += n.items()) {
      if (totals[at] != 0) sum += outputs[at * n.depth + d] * exp(maxima[at] - largest);
    }
    output[item * n.depth + d] = static_cast<T>(sum / total);
  }
  if (lane == 0) logsumexp[item] = largest + log(total);
}

// What the backward kernels read; logsumexp and delta are contiguous [B, Q, M].
template <typename T, typename Sum>
struct BackwardInputs {
  Rows<const T> query, key, value, grad_output;
  const uint32_t* bits;
  const Sum *logsumexp, *delta;
  Sum scale;
};

// Computes the weights of the warp's queries again, and the gradients of their scaled scores.
template <typename T, typename Sum, int kDepth>
__device__ void differentiate(const BackwardInputs<T, Sum>& in, const Sizes& n, int64_t image,
                              int64_t head, int64_t first_query,
                              const uint32_t (&words)[kWarpQueries], const Sum* keys,
                              const Sum* values, const Sum* queries, const Sum* grads,
                              Sum (&weights)[kWarpQueries], Sum (&by_score)[kWarpQueries]) {
  multiply_rows<Sum, kDepth>(keys, queries, weights);
  multiply_rows<Sum, kDepth>(values, grads, by_score);
#pragma unroll
  for (int j = 0; j < kWarpQueries; ++j) {
    const int64_t row = first_query + threadIdx.x / 32 * kWarpQueries + j;
    if (words[j] >> threadIdx.x % 32 & 1) {
      const int64_t item = n.item(image, row, head);
      weights[j] = exp(weights[j] - in.logsumexp[item]);
      by_score[j] = weights[j] * (by_score[j] - in.delta[item]);
    } else {
      weights[j] = by_score[j] = 0;
    }
  }
}

// Gradients of one tile of keys and values of one head, over all queries in order.
template <typename T, typename Sum, int kDepth>
__global__ void __launch_bounds__(kThreads)
    differentiate_keys(BackwardInputs<T, Sum> in, Sizes n, Rows<T> grad_key, Rows<T> grad_value) {
  extern __shared__ __align__(32) unsigned char memory[];
  Sum* keys = reinterpret_cast<Sum*>(memory);
  Sum* values = keys + kTileKeys * (kDepth + kPad);
  Sum* queries = values + kTileKeys * (kDepth + kPad);
  Sum* grads = queries + kTileQueries * kDepth;
  Sum* weights = grads + kTileQueries * kDepth;  // [kTileQueries, kTileKeys]
  Sum* by_scores = weights + kTileQueries * kTileKeys;
  const int64_t tile = blockIdx.x % n.key_tiles(), rest = blockIdx.x / n.key_tiles();
  const int64_t head = rest % n.heads, image = rest / n.heads, first = n.first_key(tile);
  const int64_t left = n.period - tile % n.words * kTileKeys;
  const uint32_t present = left < kTileKeys ? (1u << left) - 1 : ~0u;
  load_keys<T, Sum, kDepth>(in.key, n, image, head, first, present, keys);
  load_keys<T, Sum, kDepth>(in.value, n, image, head, first, present, values);
  // A thread sums column d of every kStep-th row.
  constexpr int kStep = kThreads / kDepth, kOwn = kTileKeys / kStep;
  const int d = threadIdx.x % kDepth, own = threadIdx.x / kDepth;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Sum by_key[kOwn], by_value[kOwn];
#pragma unroll
  for (int e = 0; e < kOwn; ++e) by_key[e] = by_value[e] = 0;
  for (int64_t start = 0; start < n.queries; start += kTileQueries) {
    uint32_t words[kWarpQueries];
    const uint32_t some = read_words(in.bits, n, image, start, tile % n.words, words);
    if (!__syncthreads_or(some != 0)) continue;
    load_queries<T, Sum, kDepth>(in.query, n, image, head, start, in.scale, queries);
    load_queries<T, Sum, kDepth>(in.grad_output, n, image, head, start, Sum(1), grads);
    __syncthreads();
    Sum weight[kWarpQueries], by_score[kWarpQueries];
    differentiate<T, Sum, kDepth>(in, n, image, head, start, words, keys, values, queries, grads,
                                  weight, by_score);
#pragma unroll
    for (int j = 0; j < kWarpQueries; ++j) {
      weights[(warp * kWarpQueries + j) * kTileKeys + lane] = weight[j];
      by_scores[(warp * kWarpQueries + j) * kTileKeys + lane] = by_score[j];
    }
    __syncthreads();
    for (int q = 0; q < kTileQueries; ++q) {
      const Sum from_query = queries[q * kDepth + d], from_grad = grads[q * kDepth + d];
#pragma unroll
      for (int e = 0; e < kOwn; ++e) {
        by_key[e] += by_scores[q * kTileKeys + own + e * kStep] * from_query;
        by_value[e] += weights[q * kTileKeys + own + e * kStep] * from_grad;
      }
    }
  }
#pragma unroll
  for (int e = 0; e < kOwn; ++e) {
    const int row = own + e * kStep;
    if (d < n.depth && (present >> row & 1)) {
      grad_key.at(image, first + row, head)[d] = static_cast<T>(by_key[e]);
      grad_value.at(image, first + row, head)[d] = static_cast<T>(by_value[e]);
    }
  }
}

// Gradients of a tile of queries from one part of the keys, without the factor `scale`.
template <typename T, typename Sum, int kDepth>
__global__ void __launch_bounds__(kThreads)
    differentiate_queries(BackwardInputs<T, Sum> in, Sizes n, Sum* grad_parts) {
  extern __shared__ __align__(32) unsigned char memory[];
  Sum* keys = reinterpret_cast<Sum*>(memory);
  Sum* values = keys + kTileKeys * (kDepth + kPad);
  Sum* queries = values + kTileKeys * (kDepth + kPad);
  Sum* grads = queries + kTileQueries * kDepth;
  __shared__ uint32_t unions[kThreads];
  const Place at(n);
  load_queries<T, Sum, kDepth>(in.query, n, at.image, at.head, at.first_query, in.scale, queries);
  load_queries<T, Sum, kDepth>(in.grad_output, n, at.image, at.head, at.first_query, Sum(1),
                               grads);
  Sum sums[kWarpQueries][kDepth / 32] = {};
  for (int64_t chunk = at.begin; chunk < at.end; chunk += kThreads) {
    const int64_t count = min(int64_t(kThreads), at.end - chunk);
    __syncthreads();
    unite_words(in.bits, n, at.image, at.first_query, chunk, count, unions);
    __syncthreads();
    for (int64_t index = 0; index < count; ++index) {
      if (unions[index] == 0) continue;
      const int64_t tile = chunk + index, first = n.first_key(tile);
      load_keys<T, Sum, kDepth>(in.key, n, at.image, at.head, first, unions[index], keys);
      load_keys<T, Sum, kDepth>(in.value, n, at.image, at.head, first, unions[index], values);
      __syncthreads();
      uint32_t words[kWarpQueries];
      const uint32_t some =
          read_words(in.bits, n, at.image, at.first_query, tile % n.words, words);
      if (some) {
        Sum weight[kWarpQueries], by_score[kWarpQueries];
        differentiate<T, Sum, kDepth>(in, n, at.image, at.head, at.first_query, words, keys,
                                      values, queries, grads, weight, by_score);
        add_rows<Sum, kDepth>(keys, some, by_score, sums);
      }
      __syncthreads();
    }
  }
#pragma unroll
  for (int j = 0; j < kWarpQueries; ++j) {
    const int64_t row = at.first_query + threadIdx.x / 32 * kWarpQueries + j;
    if (row >= n.queries) continue;
    const int64_t item = at.split * n.items() + n.item(at.image, row, at.head);
#pragma unroll
    for (int c = 0; c < kDepth / 32; ++c) {
      const int d = threadIdx.x % 32 + 32 * c;
      if (d < n.depth) grad_parts[item * n.depth + d] = sums[j][c];
    }
  }
}

}  // namespace attention_cuda
}  // namespace amodal2
