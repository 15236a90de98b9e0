// Masked attention on CUDA: preparation of the tensors and launches.
//
// The forward pass splits the keys among blocks and puts the parts together in a second kernel. The
// backward pass computes the weights twice, once per owner of a gradient: tiles of keys sum over all
// queries, tiles of queries over parts of the keys, whose sums are added in order. So both passes are
// deterministic on one kind of device; the number of parts depends on its multiprocessors.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>

#include "masked_attention/masked_attention_checks.h"
#include "masked_attention/masked_attention_kernels.cuh"

namespace amodal2 {
namespace {

using attention_cuda::Rows;
using attention_cuda::Sizes;

constexpr int64_t kMostDepth = 128;
constexpr int64_t kLeastTiles = 8;     // tiles of keys per part
constexpr int64_t kBlocksPerUnit = 8;    // blocks wanted per multiprocessor

at::Tensor dense_last(const at::Tensor& tensor) {
  return tensor.stride(3) == 1 ? tensor : tensor.contiguous();
}

template <typename T>
Rows<const T> view_rows(const at::Tensor& rows) {
  return {rows.const_data_ptr<T>(), rows.stride(0), rows.stride(1), rows.stride(2)};
}

template <typename T>
Rows<T> view_mutable_rows(const at::Tensor& rows) {
  return {rows.mutable_data_ptr<T>(), rows.stride(0), rows.stride(1), rows.stride(2)};
}

unsigned int check_blocks(int64_t blocks) {
  TORCH_CHECK_VALUE(blocks <= std::numeric_limits<int32_t>::max(),
                    "masked_attention: expected work for fewer than 2^31 CUDA blocks, got ",
                    blocks, "; divide the batch");
  return static_cast<unsigned int>(blocks);
}

Sizes measure(const at::Tensor& query, const at::Tensor& key,
              const std::optional<at::Tensor>& allow) {
  TORCH_CHECK_VALUE(query.size(3) <= kMostDepth, "masked_attention: expected at most ", kMostDepth,
                    " channels per head on CUDA, got ", query.size(3));
  Sizes n{query.size(0), query.size(1), key.size(1), query.size(2), query.size(3)};
  n.period = allow.has_value() ? allow->size(2) : n.keys;
  n.words = (n.period + attention_cuda::kTileKeys - 1) / attention_cuda::kTileKeys;
  const int64_t blocks = n.batch * n.heads * n.query_tiles();
  const int64_t wanted = at::cuda::getCurrentDeviceProperties()->multiProcessorCount *
                         kBlocksPerUnit;
  n.splits = std::clamp<int64_t>((wanted + blocks - 1) / blocks, 1,
                                 std::max<int64_t>(1, n.key_tiles() / kLeastTiles));
  return n;
}

at::Tensor pack_mask(const std::optional<at::Tensor>& allow, const Sizes& n,
                     const at::Tensor& query) {
  at::Tensor bits = at::empty({n.batch, n.queries, n.words}, query.options().dtype(at::kInt));
  at::Tensor dense;
  if (allow.has_value()) dense = allow->contiguous();
  attention_cuda::pack_rows<<<check_blocks(n.batch * n.queries), attention_cuda::kPackThreads, 0,
                              at::cuda::getCurrentCUDAStream()>>>(
      dense.defined() ? dense.const_data_ptr<bool>() : nullptr,
      reinterpret_cast<uint32_t*>(bits.mutable_data_ptr<int32_t>()), n.period, n.words);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return bits;
}

// Raises unless a block may have so much shared memory, and lets it have it.
template <typename Kernel>
void reserve_shared_memory(Kernel kernel, int64_t bytes) {
  const int64_t most = at::cuda::getCurrentDeviceProperties()->sharedMemPerBlockOptin;
  TORCH_CHECK_VALUE(bytes + 1024 <= most, "masked_attention: expected a device with ",
                    bytes + 1024, " bytes of shared memory per block for this type and number of "
                    "channels, got one with ", most, "; use a shorter type");
  C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(bytes)));
}

// Numbers in shared memory: two tiles of keys and `query_tiles` tiles of queries.
template <typename Sum, int kDepth>
int64_t tile_bytes(int64_t query_tiles) {
  using namespace attention_cuda;
  return sizeof(Sum) * (2 * kTileKeys * (kDepth + kPad) + query_tiles * kTileQueries * kDepth);
}

// Runs the code with kDepth the smallest compiled number of channels that suffices.
#define AMODAL2_WITH_DEPTH(depth, ...)     \
  if ((depth) <= 32) {                     \
    constexpr int kDepth = 32;             \
    __VA_ARGS__();                         \
  } else if ((depth) <= 64) {              \
    constexpr int kDepth = 64;             \
    __VA_ARGS__();                         \
  } else {                                 \
    constexpr int kDepth = kMostDepth;     \
    __VA_ARGS__();                         \
  }

template <typename T, int kDepth>
void launch_forward(const Sizes& n, const at::Tensor& query, const at::Tensor& key,
                    const at::Tensor& value, const at::Tensor& bits, double scale,
                    const at::Tensor& output, const at::Tensor& logsumexp) {
  using Sum = at::opmath_type<T>;
  const auto stream = at::cuda::getCurrentCUDAStream();
  const auto options = logsumexp.options();
  const at::Tensor maxima = at::empty({n.splits, n.items()}, options);
  const at::Tensor totals = at::empty({n.splits, n.items()}, options);
  const at::Tensor outputs = at::empty({n.splits, n.items(), n.depth}, options);
  const auto kernel = attention_cuda::attend<T, Sum, kDepth>;
  const int64_t bytes = tile_bytes<Sum, kDepth>(1);
  reserve_shared_memory(kernel, bytes);
  const int64_t blocks = n.splits * n.batch * n.heads * n.query_tiles();
  kernel<<<check_blocks(blocks), attention_cuda::kThreads, bytes, stream>>>(
      view_rows<T>(query), view_rows<T>(key), view_rows<T>(value),
      reinterpret_cast<const uint32_t*>(bits.const_data_ptr<int32_t>()), n,
      static_cast<Sum>(scale), maxima.mutable_data_ptr<Sum>(), totals.mutable_data_ptr<Sum>(),
      outputs.mutable_data_ptr<Sum>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const int64_t groups = (n.items() + attention_cuda::kWarps - 1) / attention_cuda::kWarps;
  attention_cuda::combine<T, Sum><<<check_blocks(groups), attention_cuda::kThreads, 0, stream>>>(
      maxima.const_data_ptr<Sum>(), totals.const_data_ptr<Sum>(), outputs.const_data_ptr<Sum>(), n,
      output.mutable_data_ptr<T>(), logsumexp.mutable_data_ptr<Sum>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& query, const at::Tensor& key,
                                           const at::Tensor& value,
                                           const std::optional<at::Tensor>& allow, double scale) {
  check_attention(query, key, value, allow);
  const c10::cuda::CUDAGuard guard(query.device());
  at::Tensor logsumexp =
      at::empty(query.sizes().slice(0, 3), query.options().dtype(sum_type(query)));
  if (query.numel() == 0 || key.numel() == 0) {
    logsumexp.fill_(-std::numeric_limits<double>::infinity());
    return {at::zeros(query.sizes(), query.options()), logsumexp};
  }
  at::Tensor output = at::empty(query.sizes(), query.options());
  const Sizes n = measure(query, key, allow);
  const at::Tensor bits = pack_mask(allow, n, query);
  const at::Tensor q = dense_last(query), k = dense_last(key), v = dense_last(value);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, query.scalar_type(), "masked_attention", [&] {
        AMODAL2_WITH_DEPTH(n.depth, [&] {
          launch_forward<scalar_t, kDepth>(n, q, k, v, bits, scale, output, logsumexp);
        });
      });
  return {output, logsumexp};
}

// Fills the gradients of key and value and returns that of query in the type of the sums.
template <typename T, int kDepth>
at::Tensor launch_backward(const Sizes& n, const at::Tensor& grad_output, const at::Tensor& query,
                           const at::Tensor& key, const at::Tensor& value, const at::Tensor& bits,
                           const at::Tensor& logsumexp, const at::Tensor& delta, double scale,
                           const at::Tensor& grad_key, const at::Tensor& grad_value) {
  using Sum = at::opmath_type<T>;
  const auto stream = at::cuda::getCurrentCUDAStream();
  const attention_cuda::BackwardInputs<T, Sum> in{
      view_rows<T>(query),
      view_rows<T>(key),
      view_rows<T>(value),
      view_rows<T>(grad_output),
      reinterpret_cast<const uint32_t*>(bits.const_data_ptr<int32_t>()),
      logsumexp.const_data_ptr<Sum>(),
      delta.const_data_ptr<Sum>(),
      static_cast<Sum>(scale)};
  const auto by_keys = attention_cuda::differentiate_keys<T, Sum, kDepth>;
  const int64_t weight_bytes =
      2 * sizeof(Sum) * attention_cuda::kTileQueries * attention_cuda::kTileKeys;
  const int64_t bytes = tile_bytes<Sum, kDepth>(2);
  reserve_shared_memory(by_keys, bytes + weight_bytes);
  by_keys<<<check_blocks(n.key_tiles() * n.heads * n.batch), attention_cuda::kThreads,
            bytes + weight_bytes, stream>>>(in, n, view_mutable_rows<T>(grad_key),
                                            view_mutable_rows<T>(grad_value));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const at::Tensor parts = at::empty(
      {n.splits, n.batch, n.queries, n.heads, n.depth}, logsumexp.options());
  const auto by_queries = attention_cuda::differentiate_queries<T, Sum, kDepth>;
  reserve_shared_memory(by_queries, bytes);
  const int64_t blocks = n.splits * n.batch * n.heads * n.query_tiles();
  by_queries<<<check_blocks(blocks), attention_cuda::kThreads, bytes, stream>>>(
      in, n, parts.mutable_data_ptr<Sum>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return parts.sum(0).mul_(scale);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad_output, const at::Tensor& query, const at::Tensor& key,
    const at::Tensor& value, const std::optional<at::Tensor>& allow, const at::Tensor& output,
    const at::Tensor& logsumexp, double scale) {
  check_attention(query, key, value, allow);
  check_attention_gradient(grad_output, query, output, logsumexp);
  const c10::cuda::CUDAGuard guard(query.device());
  at::Tensor grad_key = at::zeros(key.sizes(), key.options());
  at::Tensor grad_value = at::zeros(value.sizes(), value.options());
  if (query.numel() == 0 || key.numel() == 0) {
    return {at::zeros(query.sizes(), query.options()), grad_key, grad_value};
  }
  const Sizes n = measure(query, key, allow);
  const at::Tensor bits = pack_mask(allow, n, query);
  const at::ScalarType type = sum_type(query);
  const at::Tensor grad = dense_last(grad_output.to(query.scalar_type()));
  const at::Tensor delta = (grad.to(type) * output.to(type)).sum(3).contiguous();
  const at::Tensor sums = logsumexp.contiguous();
  const at::Tensor q = dense_last(query), k = dense_last(key), v = dense_last(value);
  at::Tensor grad_query;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, query.scalar_type(), "_masked_attention_backward", [&] {
        AMODAL2_WITH_DEPTH(n.depth, [&] {
          grad_query = launch_backward<scalar_t, kDepth>(n, grad, q, k, v, bits, sums, delta,
                                                         scale, grad_key, grad_value);
        });
      });
  return {grad_query.to(query.scalar_type()), grad_key, grad_value};
}

}  // namespace

TORCH_LIBRARY_IMPL(amodal2, CUDA, m) {
  m.impl("masked_attention", &forward);
  m.impl("_masked_attention_backward", &backward);
}

}  // namespace amodal2
