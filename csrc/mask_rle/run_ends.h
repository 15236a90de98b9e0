// Collects where runs end and writes them in batches.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "mask_rle/rle_text.h"
#include "mask_rle/text_buffer.h"

namespace amodal2 {

// For every byte, how many bits are set and which ones, the lowest first; then zeros.
struct BitTable {
  uint8_t count[256] = {};
  uint16_t places[256][8] = {};

  constexpr BitTable() {
    for (int byte = 0; byte < 256; ++byte) {
      for (int bit = 0; bit < 8; ++bit) {
        if (byte >> bit & 1) places[byte][count[byte]++] = bit;
      }
    }
  }
};

inline constexpr BitTable kBitTable;

// The ends of the runs of one mask, in rising order; `flush` after the last one.
class RunEnds {
 public:
  explicit RunEnds(TextBuffer& text) : text_(text) {}

  // Ends a run before the pixel `start` + i for every bit i that is set in `changes`, not 0.
  void add(int64_t start, uint64_t changes) {
    if (start - base_ > kMostOffset || count_ > kMostEnds) {
      flush();
      base_ = start;
    }
    uint16_t first = static_cast<uint16_t>(start - base_);
    if ((changes & (changes - 1)) == 0) {  // as in most words of smooth shapes
      ends_[count_++] = first + std::countr_zero(changes);
      return;
    }
    uint16_t* to = ends_ + count_;
    for (; changes != 0; changes >>= 8, first += 8) {
      const EightEnds ends = load_ends(kBitTable.places[changes & 255]) + first;
      std::memcpy(to, &ends, sizeof(ends));
      to += kBitTable.count[changes & 255];
    }
    count_ = to - ends_;
  }

  void flush() {
    uint8_t* to = text_.reserve(count_ * kMostGroups);
    text_.size = writer_.end_runs(base_, ends_, count_, to) - text_.data;
    count_ = 0;
  }

 private:
  static constexpr int64_t kMostOffset = (1 << 15) - 64;  // differences stay below 2^15
  static constexpr int64_t kMostEnds = 1 << 10;

  TextBuffer& text_;
  RleWriter writer_;
  int64_t base_ = 0, count_ = 0;  // the pixel from which `ends_` count
  uint16_t ends_[kMostEnds + 64 + 8];  // more: those of one word, and what a table's row overwrites
};

}  // namespace amodal2
