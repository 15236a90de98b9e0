// The text form of COCO's run lengths.
//
// Runs alternate between background and foreground, beginning with background. From the fourth on,
// the difference to the run two places before is written. A number goes out in groups of five bits,
// the lowest first, one character (48 + group) each; 32 is added where more groups follow, and 16
// in the last group is the sign.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace amodal2 {

// Longest number in characters: 35 bits, which no mask of fewer than 2^34 pixels exceeds.
constexpr int kMostGroups = 7;

typedef uint16_t EightEnds __attribute__((vector_size(16)));

inline EightEnds load_ends(const uint16_t* from) {
  EightEnds ends;
  std::memcpy(&ends, from, sizeof(ends));
  return ends;
}

// Writes one text.
class RleWriter {
 public:
  // Ends the present run before the pixel at `position`; writes up to kMostGroups characters to
  // `to` and returns where they end.
  uint8_t* end_run(int64_t position, uint8_t* to) {
    const int64_t run = position - position_;
    position_ = position;
    int64_t number = run - before_;
    before_ = last_;
    last_ = run & not_first_;  // the third run is written as it is
    not_first_ = -1;
    while (number < -16 || number > 15) {
      *to++ = static_cast<uint8_t>(48 + 32 + (number & 31));
      number >>= 5;
    }
    *to++ = static_cast<uint8_t>(48 + (number & 31));
    return to;
  }

  // Ends runs before the pixels `base` + `ends[i]`, which rise by less than 2^15 in all, as
  // `end_run` would one by one. Noise and edges of smooth shapes have numbers of one character
  // each; where that is so for all of a batch, they are written without a branch.
  uint8_t* end_runs(int64_t base, const uint16_t* ends, int64_t count, uint8_t* to) {
    RleWriter local = *this;  // its address is known to nobody, so it stays in registers
    int64_t i = 0;
    for (; i < std::min<int64_t>(count, 3); ++i) to = local.end_run(base + ends[i], to);
    while (i < count) {
      const int64_t stop = std::min(count, i + kBatch);
      if (stop - i == kBatch && write_batch(ends + i, to)) {
        to += kBatch;
        i = stop;
        local.position_ = base + ends[i - 1];
        local.last_ = ends[i - 1] - ends[i - 2];
        local.before_ = ends[i - 2] - ends[i - 3];
      }
      for (; i < stop; ++i) to = local.end_run(base + ends[i], to);
    }
    *this = local;
    return to;
  }

 private:
  static constexpr int64_t kBatch = 16;

  // Writes one character per number; returns whether that is enough for all of them.
  static bool write_batch(const uint16_t* ends, uint8_t* to) {
    typedef uint8_t Chars __attribute__((vector_size(8)));
    EightEnds beyond = {};  // bits of the numbers + 16 that one character does not hold
    for (int i = 0; i < kBatch; i += 8) {
      const EightEnds run = load_ends(ends + i) - load_ends(ends + i - 1);
      const EightEnds before = load_ends(ends + i - 2) - load_ends(ends + i - 3);
      const EightEnds number = run - before;
      beyond |= (number + 16) & 0xffe0;
      const Chars chars = __builtin_convertvector((number & 31) + 48, Chars);
      std::memcpy(to + i, &chars, sizeof(chars));
    }
    uint64_t halves[2];
    std::memcpy(halves, &beyond, sizeof(beyond));
    return (halves[0] | halves[1]) == 0;
  }

  int64_t position_ = 0, last_ = 0, before_ = 0, not_first_ = 0;
};

// Reads the runs of one text. `next` returns nullptr and sets `run`, or says what is wrong.
class RleReader {
 public:
  RleReader(const uint8_t* begin, const uint8_t* end) : next_(begin), end_(end) {}

  bool done() const { return next_ == end_; }

  const char* next(int64_t& run) {
    int64_t number = 0;
    for (int group = 0;; ++group) {
      if (group == kMostGroups) return "runs below 2^34, got a longer number";
      if (next_ == end_) return "complete RLE counts, got a text cut inside a number";
      const int64_t value = static_cast<int64_t>(*next_++) - 48;
      if (value < 0 || value > 63) return "RLE counts of the characters '0' to 'o', got another";
      number |= (value & 31) << (5 * group);
      if (value & 32) continue;
      if (value & 16) number -= int64_t{1} << (5 * (group + 1));
      break;
    }
    run = number + before_;
    before_ = last_;
    last_ = run & not_first_;
    not_first_ = -1;
    return run < 0 ? "runs of at least 0 pixels, got a negative one" : nullptr;
  }

 private:
  const uint8_t* next_;
  const uint8_t* end_;
  int64_t last_ = 0, before_ = 0, not_first_ = 0;
};

}  // namespace amodal2
