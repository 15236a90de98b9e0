// Argument checks of the kernels; every message names the op, what it expects and what it got. In
// Python a wrong type is a TypeError, everything else a ValueError.
#pragma once

#include <ATen/ATen.h>

// Raises unless the tensor has `rank` dimensions; `layout` describes them, for example "[B, S]".
#define AMODAL2_CHECK_RANK(op, tensor, rank, layout)                                         \
  TORCH_CHECK_VALUE((tensor).dim() == (rank), op, ": expected " #tensor " " layout ", got ", \
                    (tensor).sizes())

// Raises unless the tensor has exactly these sizes (an at::IntArrayRef).
#define AMODAL2_CHECK_SIZES(op, tensor, expected)                                           \
  TORCH_CHECK_VALUE((tensor).sizes() == (expected), op, ": expected " #tensor " of sizes ", \
                    at::IntArrayRef(expected), ", got ", (tensor).sizes())

// Raises unless the tensor holds numbers of type `dtype`.
#define AMODAL2_CHECK_DTYPE(op, tensor, dtype)                                               \
  TORCH_CHECK_TYPE((tensor).scalar_type() == (dtype), op, ": expected " #tensor " of type ", \
                   dtype, ", got ", (tensor).scalar_type())

// Raises unless the tensor lies in main memory.
#define AMODAL2_CHECK_CPU(op, tensor)               \
  TORCH_CHECK_VALUE((tensor).device().is_cpu(), op, \
                    ": expected " #tensor " on the CPU, got it on ", (tensor).device())

// Raises unless the tensor lies in the memory of a GPU.
#define AMODAL2_CHECK_CUDA(op, tensor)                                                             \
  TORCH_CHECK_VALUE((tensor).is_cuda(), op, ": expected " #tensor " on a CUDA device, got it on ", \
                    (tensor).device())

// Raises unless the tensor lies where `other` does.
#define AMODAL2_CHECK_SAME_DEVICE(op, tensor, other)                                         \
  TORCH_CHECK_VALUE((tensor).device() == (other).device(), op, ": expected " #tensor " on ", \
                    (other).device(), " like " #other ", got it on ", (tensor).device())
