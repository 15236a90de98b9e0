// The foreground of one mask as runs of pixels, and what two masks share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "mask_rle/rle_text.h"

namespace amodal2 {

// Where runs begin and end, in column-major order of the pixels, and the box of all of them.
struct Foreground {
  std::vector<int64_t> starts, ends;
  int64_t left = 0, right = -1, top = 0, bottom = -1;  // the last ones included

  // Returns what is wrong with the text, nullptr if it is that of a mask. A text without characters
  // stands for an empty mask.
  const char* read(RleReader reader, int64_t height, int64_t width) {
    starts.clear();
    ends.clear();
    top = height;
    right = bottom = -1;
    int64_t left_over = height * width, position = 0, column = 0, row = 0;
    if (reader.done() || left_over == 0) return nullptr;
    for (bool foreground = false; !reader.done(); foreground = !foreground) {
      int64_t run = 0;
      if (const char* problem = reader.next(run)) return problem;
      if (run > left_over) return "RLE runs that fill the frame, got more pixels";
      left_over -= run;
      if (foreground && run > 0) {
        if (starts.empty()) left = column;
        starts.push_back(position);
        ends.push_back(position + run);
        const int64_t last = row + run - 1;
        top = last < height ? std::min(top, row) : 0;
        bottom = last < height ? std::max(bottom, last) : height - 1;
        right = column + (last < height ? 0 : last / height);
      }
      position += run;
      row += run;
      if (row >= height) {  // most often by less than one column
        row -= height;
        ++column;
        if (row >= height) {
          column += row / height;
          row %= height;
        }
      }
    }
    return left_over == 0 ? nullptr : "RLE runs that fill the frame, got fewer pixels";
  }

  bool touches(const Foreground& other) const {
    return left <= other.right && other.left <= right && top <= other.bottom && other.top <= bottom;
  }

  // Counts the pixels that both have.
  int64_t intersection(const Foreground& other) const {
    if (starts.empty() || other.starts.empty() || !touches(other)) return 0;
    auto first_after = [](const std::vector<int64_t>& stops, int64_t position) {
      return std::upper_bound(stops.begin(), stops.end(), position) - stops.begin();
    };
    int64_t i = first_after(ends, other.starts.front()), j = first_after(other.ends, starts.front());
    const int64_t count = static_cast<int64_t>(ends.size());
    const int64_t other_count = static_cast<int64_t>(other.ends.size());
    int64_t pixels = 0;
    while (i < count && j < other_count) {
      const int64_t shared =
          std::min(ends[i], other.ends[j]) - std::max(starts[i], other.starts[j]);
      pixels += std::max<int64_t>(shared, 0);
      const bool first_ends = ends[i] < other.ends[j];
      i += first_ends;
      j += !first_ends;
    }
    return pixels;
  }
};

}  // namespace amodal2
