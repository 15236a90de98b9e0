// Masks as bits in column-major order: bit r % 64 of word [r / 64 * W + c] is the pixel of row r
// and column c of a mask [H, W].
//
// The loops over columns are plain ones that the compiler turns into vectors. Longer vectors than
// the baseline's were not faster.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace amodal2 {

constexpr int64_t kWordBits = 64;
constexpr int kWordBytes = 8;

inline int64_t count_words(int64_t bits) { return (bits + kWordBits - 1) / kWordBits; }

// Asks for memory that is read soon; the processor itself does not foresee eight rows at once.
inline void prefetch(const uint8_t* from, int64_t size) {
#if defined(__SSE2__)
  for (int64_t i = 0; i < size; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(from + i), _MM_HINT_T0);
  }
#endif
}

// Sets bit r of each byte if the pixel in row r, of at most eight, is not zero.
inline void pack_rows(const uint8_t* mask, int64_t rows, int64_t width,
                      uint8_t* __restrict__ packed) {
  if (rows == 8) {
    const uint8_t* row[8];
    for (int r = 0; r < 8; ++r) row[r] = mask + r * width;
    for (int64_t c = 0; c < width; ++c) {
      uint8_t bits = 0;
      for (int r = 0; r < 8; ++r) bits |= row[r][c] != 0 ? 1 << r : 0;
      packed[c] = bits;
    }
    return;
  }
  std::fill_n(packed, width, 0);
  for (int64_t r = 0; r < rows; ++r, mask += width) {
    for (int64_t c = 0; c < width; ++c) packed[c] |= mask[c] != 0 ? 1 << r : 0;
  }
}

#if defined(__SSE2__)
// Joins eight bytes of 16 columns; each step doubles the bytes of a column that lie side by side.
inline void join_16(const uint8_t* packed, int64_t width, uint64_t* words) {
  __m128i row[8], two[8], four[8];
  for (int i = 0; i < 8; ++i) {
    row[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed + i * width));
  }
  for (int i = 0; i < 8; i += 2) {  // two[i]: columns 0 to 7, two[i + 1]: columns 8 to 15
    two[i] = _mm_unpacklo_epi8(row[i], row[i + 1]);
    two[i + 1] = _mm_unpackhi_epi8(row[i], row[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int half = 0; half < 2; ++half) {
      four[i + 2 * half] = _mm_unpacklo_epi16(two[i + half], two[i + 2 + half]);
      four[i + 2 * half + 1] = _mm_unpackhi_epi16(two[i + half], two[i + 2 + half]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    auto* to = reinterpret_cast<__m128i*>(words + 4 * i);
    _mm_storeu_si128(to, _mm_unpacklo_epi32(four[i], four[4 + i]));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi32(four[i], four[4 + i]));
  }
}
#endif

// Makes words of eight packed rows.
inline void join_bytes(const uint8_t* packed, int64_t width, uint64_t* words) {
  int64_t c = 0;
#if defined(__SSE2__)
  for (; c + 16 <= width; c += 16) join_16(packed + c, width, words + c);
#endif
  for (; c < width; ++c) {
    words[c] = 0;
    for (int byte = 0; byte < kWordBytes; ++byte) {
      words[c] |= static_cast<uint64_t>(packed[byte * width + c]) << (8 * byte);
    }
  }
}

// Fills the words of a mask whose rows lie one after the other, and marks the columns that have any
// pixel. `packed` has 8 W bytes.
inline void bits_of_rows(const uint8_t* mask, int64_t height, int64_t width, uint8_t* packed,
                         uint8_t* __restrict__ used, uint64_t* words) {
  std::fill_n(used, width, 0);
  for (int64_t first = 0; first < height; first += kWordBits, words += width) {
    for (int byte = 0; byte < kWordBytes; ++byte) {
      const int64_t row = first + 8 * byte;
      uint8_t* bits = packed + byte * width;
      prefetch(mask + (row + 8) * width, 8 * width);
      pack_rows(mask + row * width, std::clamp<int64_t>(height - row, 0, 8), width, bits);
      for (int64_t c = 0; c < width; ++c) used[c] |= bits[c];
    }
    join_bytes(packed, width, words);
  }
}

// Writes words as rows of bytes of 0 or 1. `packed` has W bytes.
inline void rows_of_bits(const uint64_t* words, int64_t height, int64_t width,
                         uint8_t* __restrict__ packed, uint8_t* __restrict__ mask) {
  for (int64_t row = 0; row < height; row += 8) {
    const uint64_t* word = words + row / kWordBits * width;
    const int64_t shift = row % kWordBits;
    for (int64_t c = 0; c < width; ++c) packed[c] = static_cast<uint8_t>(word[c] >> shift);
    for (int64_t r = 0; r < std::min<int64_t>(8, height - row); ++r, mask += width) {
      const uint8_t bit = 1 << r;
      for (int64_t c = 0; c < width; ++c) mask[c] = (packed[c] & bit) != 0;
    }
  }
}

// The same for a mask whose columns lie one after the other.
inline void bits_of_columns(const uint8_t* mask, int64_t height, int64_t width, uint8_t* used,
                            uint64_t* words) {
  for (int64_t c = 0; c < width; ++c) {
    used[c] = 0;
    for (int64_t first = 0; first < height; first += kWordBits) {
      uint64_t word = 0;
      const int64_t rows = std::min(kWordBits, height - first);
      for (int64_t r = 0; r < rows; ++r) word |= static_cast<uint64_t>(*mask++ != 0) << r;
      words[first / kWordBits * width + c] = word;
      used[c] |= word != 0;
    }
  }
}

// Sets rows [begin, end) of the column whose first word is given.
inline void set_rows(uint64_t* word, int64_t width, int64_t begin, int64_t end) {
  word += begin / kWordBits * width;
  for (; begin < end; word += width) {
    const int64_t low = begin % kWordBits, next = std::min(end, begin - low + kWordBits);
    *word |= ~0ull >> (kWordBits - (next - begin)) << low;
    begin = next;
  }
}

}  // namespace amodal2
