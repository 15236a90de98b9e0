// Checks of what the ops get: sizes, and the texts of several masks.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>

#include "common/checks.h"
#include "mask_rle/rle_text.h"

namespace amodal2 {

constexpr int64_t kMostPixels = int64_t{1} << 34;  // what the text form's readers accept

inline void check_pair(const char* op, const char* name, at::IntArrayRef pair) {
  TORCH_CHECK_VALUE(pair.size() == 2 && pair[0] >= 0 && pair[1] >= 0, op, ": expected ", name,
                    " as two numbers of at least 0, got ", pair);
}

inline void check_pixels(const char* op, const char* name, at::IntArrayRef size) {
  check_pair(op, name, size);
  TORCH_CHECK_VALUE(size[0] == 0 || size[1] < (kMostPixels + size[0] - 1) / size[0], op,
                    ": expected ", name, " with fewer than 2^34 pixels, got ", size);
}

struct Texts {
  at::Tensor memory, bounds;
  const uint8_t* first;
  const int64_t* bound;
  int64_t count;

  RleReader reader(int64_t i) const { return RleReader(first + bound[i], first + bound[i + 1]); }
};

inline Texts check_texts(const char* op, const at::Tensor& text, const at::Tensor& offsets) {
  AMODAL2_CHECK_CPU(op, text);
  AMODAL2_CHECK_CPU(op, offsets);
  AMODAL2_CHECK_RANK(op, text, 1, "[L]");
  AMODAL2_CHECK_RANK(op, offsets, 1, "[N + 1]");
  AMODAL2_CHECK_DTYPE(op, text, at::kByte);
  AMODAL2_CHECK_DTYPE(op, offsets, at::kLong);
  Texts texts{text.contiguous(), offsets.contiguous(), nullptr, nullptr, offsets.numel() - 1};
  texts.first = texts.memory.const_data_ptr<uint8_t>();
  texts.bound = texts.bounds.const_data_ptr<int64_t>();
  TORCH_CHECK_VALUE(texts.count >= 0 && texts.bound[0] == 0 &&
                        texts.bound[texts.count] == text.numel() &&
                        std::is_sorted(texts.bound, texts.bound + texts.count + 1),
                    op, ": expected offsets that rise from 0 to the ", text.numel(),
                    " characters of text, got other ones");
  return texts;
}

}  // namespace amodal2
