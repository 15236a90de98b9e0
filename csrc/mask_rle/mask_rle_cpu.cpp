// Run-length coding of masks on the CPU: checks, loops over runs, division among threads.
#include <ATen/ATen.h>
#include <torch/library.h>

// The loops use vector types of GCC and Clang and read the bits of eight bytes as those of one
// number; elsewhere, and where the highest byte comes first, the reference runs.
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "common/checks.h"
#include "mask_rle/bit_columns.h"
#include "mask_rle/rle_text.h"
#include "mask_rle/run_ends.h"
#include "mask_rle/text_buffer.h"
#include "mask_rle/texts.h"

namespace amodal2 {
namespace {

constexpr int64_t kGrainPixels = 1 << 16;  // work that is worth a thread

// A frame, and where a mask lies in it; outside the mask there is background.
struct Place {
  int64_t height, width, top, left;

  int64_t pixels() const { return height * width; }
};

int64_t grain(int64_t pixels) { return std::max<int64_t>(1, kGrainPixels / (pixels + 1)); }

// Writes the runs of a mask, column by column.
void write_runs(const uint64_t* words, const uint8_t* used, int64_t height, int64_t width,
                const Place& place, TextBuffer& text) {
  const int64_t groups = count_words(height), last_rows = height - (groups - 1) * kWordBits;
  const bool joined = height == place.height;  // columns follow one another without a gap
  RunEnds ends(text);
  uint64_t carry = 0;
  for (int64_t column = 0; column < width; ++column) {
    if (!used[column] && !carry) continue;
    int64_t start = (place.left + column) * place.height + place.top;
    for (int64_t group = 0; group < groups; ++group, start += kWordBits) {
      const uint64_t word = words[group * width + column];
      const int64_t rows = group + 1 == groups ? last_rows : kWordBits;
      const uint64_t changes = (word ^ (word << 1 | carry)) & (~0ull >> (kWordBits - rows));
      carry = word >> (rows - 1) & 1;
      if (changes != 0) ends.add(start, changes);
    }
    const int64_t end = (place.left + column) * place.height + place.top + height;
    if (carry && (!joined || column + 1 == width) && end < place.pixels()) {
      carry = 0;
      ends.add(end, 1);
    }
  }
  ends.add(place.pixels(), 1);
  ends.flush();
}

// Returns `size` characters, without a copy if they are in one buffer, as those of one thread are.
at::Tensor join_texts(const std::vector<TextBuffer>& texts, int64_t size) {
  if (!texts.empty() && texts[0].size == size) return texts[0].memory.narrow(0, 0, size);
  at::Tensor joined = at::empty({size}, at::kByte);
  uint8_t* to = joined.mutable_data_ptr<uint8_t>();
  for (const TextBuffer& text : texts) to = std::copy_n(text.data, text.size, to);
  return joined;
}

std::tuple<at::Tensor, at::Tensor> encode(const at::Tensor& masks, at::IntArrayRef frame,
                                          at::IntArrayRef origin) {
  constexpr const char* kName = "mask_rle";
  AMODAL2_CHECK_CPU(kName, masks);
  AMODAL2_CHECK_RANK(kName, masks, 3, "[N, H, W]");
  TORCH_CHECK_TYPE(masks.scalar_type() == at::kBool || masks.scalar_type() == at::kByte, kName,
                   ": expected masks of type bool or uint8, got ", masks.scalar_type());
  check_pixels(kName, "frame", frame);
  check_pair(kName, "origin", origin);
  const int64_t height = masks.size(1), width = masks.size(2);
  TORCH_CHECK_VALUE(height <= frame[0] && origin[0] <= frame[0] - height && width <= frame[1] &&
                        origin[1] <= frame[1] - width,
                    kName, ": expected masks of ", height, " x ", width,
                    " pixels inside the frame ", frame, ", got origin ", origin);
  const Place place{frame[0], frame[1], origin[0], origin[1]};
  // Masks of other decoders come column by column.
  const bool by_columns = !masks.is_contiguous() && masks.transpose(1, 2).is_contiguous();
  const at::Tensor dense = by_columns ? masks : masks.contiguous();
  const auto* pixels = static_cast<const uint8_t*>(dense.const_data_ptr());
  std::vector<TextBuffer> texts(masks.size(0));  // that of a range of masks is at its first one
  at::Tensor offsets = at::empty({masks.size(0) + 1}, at::kLong);
  int64_t* sizes = offsets.mutable_data_ptr<int64_t>() + 1;
  sizes[-1] = 0;
  at::parallel_for(0, masks.size(0), grain(height * width), [&](int64_t begin, int64_t end) {
    std::vector<uint64_t> words(count_words(height) * width);
    std::vector<uint8_t> packed(kWordBytes * width), used(width);
    TextBuffer& text = texts[begin];
    for (int64_t i = begin; i < end; ++i) {
      const uint8_t* mask = pixels + i * height * width;
      if (by_columns) {
        bits_of_columns(mask, height, width, used.data(), words.data());
      } else {
        bits_of_rows(mask, height, width, packed.data(), used.data(), words.data());
      }
      const int64_t before = text.size;
      write_runs(words.data(), used.data(), height, width, place, text);
      sizes[i] = text.size - before;
    }
  });
  std::partial_sum(sizes, sizes + masks.size(0), sizes);
  return {join_texts(texts, sizes[masks.size(0) - 1]), offsets};
}

// Sets the bits of the foreground runs. Returns what is wrong with the text, "" if it is valid.
std::string read_runs(RleReader reader, int64_t height, int64_t width, uint64_t* words) {
  const int64_t pixels = height * width;
  int64_t position = 0, column = 0, row = 0;
  for (bool foreground = false; !reader.done(); foreground = !foreground) {
    int64_t run = 0;
    if (const char* problem = reader.next(run)) return problem;
    if (run > pixels - position) {
      return "RLE runs that sum to " + std::to_string(pixels) + " pixels, got more";
    }
    position += run;
    while (run > 0) {
      if (!foreground && run >= height) {
        column += run / height;
        run %= height;
      }
      const int64_t end = std::min(row + run, height);
      if (foreground) set_rows(words + column, width, row, end);
      run -= end - row;
      row = end;
      if (row == height) row = 0, ++column;
    }
  }
  if (position == pixels) return {};
  return "RLE runs that sum to " + std::to_string(pixels) + " pixels, got " +
      std::to_string(position) + "; the text is truncated or damaged";
}

at::Tensor decode(const at::Tensor& text, const at::Tensor& offsets, at::IntArrayRef size) {
  constexpr const char* kName = "mask_rle_decode";
  const Texts texts = check_texts(kName, text, offsets);
  check_pixels(kName, "size", size);
  const int64_t count = texts.count, height = size[0], width = size[1];
  at::Tensor masks = at::empty({count, height, width}, at::kBool);
  auto* pixels = static_cast<uint8_t*>(masks.mutable_data_ptr());
  at::parallel_for(0, count, grain(height * width), [&](int64_t begin, int64_t end) {
    std::vector<uint64_t> words(count_words(height) * width);
    std::vector<uint8_t> packed(width);
    for (int64_t i = begin; i < end; ++i) {
      std::fill(words.begin(), words.end(), 0);
      const std::string problem = read_runs(texts.reader(i), height, width, words.data());
      TORCH_CHECK_VALUE(problem.empty(), kName, ": expected ", problem, " (mask ", i, ")");
      rows_of_bits(words.data(), height, width, packed.data(), pixels + i * height * width);
    }
  });
  return masks;
}

}  // namespace

TORCH_LIBRARY_IMPL(amodal2, CPU, m) {
  m.impl("mask_rle", &encode);
  m.impl("mask_rle_decode", &decode);
}

}  // namespace amodal2

#endif
