// Memory for texts whose length is not known before.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>

namespace amodal2 {

// The texts of some masks; `data` and `size` are those of the characters written so far.
struct TextBuffer {
  at::Tensor memory;
  uint8_t* data = nullptr;
  int64_t size = 0, capacity = 0;

  // Returns the end of the texts, behind which there is room for `count` characters.
  uint8_t* reserve(int64_t count) {
    if (capacity < size + count) {
      capacity = 2 * (size + count);
      const at::Tensor larger = at::empty({capacity}, at::kByte);
      auto* to = larger.mutable_data_ptr<uint8_t>();
      std::copy_n(data, size, to);
      memory = larger;
      data = to;
    }
    return data + size;
  }
};

}  // namespace amodal2
