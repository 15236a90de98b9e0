// The mask of masked attention in bits, and which rows of it are worked on key by key.
//
// A row is one query of one image. Its bits are those of `allow`, all set if none is. They cover one
// period of the keys; the mask may repeat over several periods (the frames of a clip).
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace amodal2 {

// Keys are worked on in blocks that stay in the second-level cache; whole words of bits.
constexpr int64_t kKeyBlock = 128;
constexpr int64_t kBlockWords = kKeyBlock / 64;

// Rows with a larger share of allowed keys are computed in dense tiles. A tile skips no key that one
// of its rows needs, a sparse row pays about this much more per key (measured on Zen 3, D = 32).
constexpr double kDenseShare = 0.6;

// The rows of one image, by how they are computed.
struct RowLists {
  std::vector<int32_t> dense;   // rows that allow everything first
  std::vector<int32_t> sparse;
};

struct PackedMask {
  int64_t queries, period, words;  // words per row, a multiple of kBlockWords
  std::vector<uint64_t> bits;      // [B, Q, words]
  std::vector<RowLists> images;

  const uint64_t* row(int64_t image, int64_t query) const {
    return bits.data() + (image * queries + query) * words;
  }
};

// Packs one row of `period` bools and returns how many are true.
inline int64_t pack_row(const bool* allow, int64_t period, uint64_t* bits) {
  int64_t count = 0;
  for (int64_t start = 0; start < period; start += 64) {
    uint64_t word = 0;
    const int64_t size = std::min<int64_t>(64, period - start);
    for (int64_t byte = 0; byte < size; byte += 8) {
      uint64_t eight = 0;
      std::memcpy(&eight, allow + start + byte, std::min<int64_t>(8, size - byte));
      // Moves the lowest bit of byte i to bit 56 + i.
      word |= (eight * 0x0102040810204080u >> 56) << byte;
    }
    bits[start / 64] = word;
    count += __builtin_popcountll(word);
  }
  return count;
}

inline void allow_all(int64_t period, uint64_t* bits) {
  for (int64_t start = 0; start < period; start += 64) {
    const int64_t size = std::min<int64_t>(64, period - start);
    bits[start / 64] = ~uint64_t{0} >> (64 - size);
  }
}

// Packs `allow`, contiguous [B, Q, period], or makes a mask that allows everything.
inline PackedMask pack_mask(const std::optional<at::Tensor>& allow, int64_t batch, int64_t queries,
                            int64_t period) {
  PackedMask mask{queries, period, (period + kKeyBlock - 1) / kKeyBlock * kBlockWords, {}, {}};
  mask.bits.assign(batch * queries * mask.words, 0);
  std::vector<int64_t> counts(batch * queries, 0);
  const bool* source = allow.has_value() ? allow->const_data_ptr<bool>() : nullptr;
  at::parallel_for(0, batch * queries, 8, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      uint64_t* bits = mask.bits.data() + row * mask.words;
      if (source) counts[row] = pack_row(source + row * period, period, bits);
      if (counts[row] == 0) {
        allow_all(period, bits);
        counts[row] = period;
      }
    }
  });
  mask.images.resize(batch);
  for (int64_t image = 0; image < batch; ++image) {
    RowLists& lists = mask.images[image];
    for (int32_t query = 0; query < queries; ++query) {
      const int64_t count = counts[image * queries + query];
      (count > kDenseShare * period ? lists.dense : lists.sparse).push_back(query);
    }
    std::stable_partition(lists.dense.begin(), lists.dense.end(), [&](int32_t query) {
      return counts[image * queries + query] == period;
    });
  }
  return mask;
}

// Lists the set bits of a block of a row and returns how many there are.
inline int64_t list_keys(const uint64_t* words, uint16_t* keys) {
  int64_t count = 0;
  for (int64_t index = 0; index < kBlockWords; ++index) {
    for (uint64_t word = words[index]; word != 0; word &= word - 1) {
      keys[count++] = static_cast<uint16_t>(64 * index + __builtin_ctzll(word));
    }
  }
  return count;
}

// Swaps rows and columns of 8 x 8 bits, of which each byte is a row.
inline uint64_t transpose_bits(uint64_t x) {
  uint64_t swap = (x ^ (x >> 7)) & 0x00aa00aa00aa00aau;
  x ^= swap ^ (swap << 7);
  swap = (x ^ (x >> 14)) & 0x0000cccc0000ccccu;
  x ^= swap ^ (swap << 14);
  swap = (x ^ (x >> 28)) & 0x00000000f0f0f0f0u;
  return x ^ swap ^ (swap << 28);
}

enum class Cover { kNone, kSome, kAll };

// The part of the mask that a tile of up to 32 rows and a block of keys share: bit j of a key's word
// is row j of the tile.
struct TileMask {
  Cover cover;
  uint32_t keys[kKeyBlock];
};

inline void read_tile_mask(const PackedMask& mask, int64_t image, const int32_t* rows,
                           int64_t count, int64_t first_key, int64_t keys, TileMask& tile) {
  const int64_t first_word = first_key / 64;
  uint64_t any = 0, all = ~uint64_t{0};
  for (int64_t row = 0; row < count; ++row) {
    const uint64_t* words = mask.row(image, rows[row]) + first_word;
    for (int64_t start = 0; start < keys; start += 64) {
      const uint64_t inside = ~uint64_t{0} >> (64 - std::min<int64_t>(64, keys - start));
      any |= words[start / 64];
      all &= words[start / 64] | ~inside;
    }
  }
  tile.cover = !any ? Cover::kNone : all == ~uint64_t{0} ? Cover::kAll : Cover::kSome;
  if (tile.cover != Cover::kSome) return;
  std::memset(tile.keys, 0, sizeof(tile.keys));
  for (int64_t group = 0; group < count; group += 8) {
    for (int64_t byte = 0; byte < kKeyBlock / 8; ++byte) {
      uint64_t square = 0;
      for (int64_t row = group; row < std::min(count, group + 8); ++row) {
        const uint64_t word = mask.row(image, rows[row])[first_word + byte / 8];
        square |= (word >> byte % 8 * 8 & 0xff) << (row - group) * 8;
      }
      square = transpose_bits(square);
      for (int64_t key = 0; key < 8; ++key) {
        tile.keys[8 * byte + key] |= static_cast<uint32_t>(square >> 8 * key & 0xff) << group;
      }
    }
  }
}

}  // namespace amodal2
