// What one call of masked attention works on, and how it is divided among threads.
//
// A unit of work is a run of heads of one image and, if there are more threads than heads, every
// parts-th tile and sparse row of it. Results do not depend on the division.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "masked_attention/masked_attention_mask.h"
#include "masked_attention/masked_attention_tiles.h"

namespace amodal2 {

constexpr double kLn2 = 0.6931471805599453;

// Rows of D numbers are padded with zeros to multiples of this.
constexpr int64_t kRowBytes = 32;

// D numbers per key and head, at any address, the last dimension dense.
template <typename T>
struct Rows {
  T* data;
  int64_t image_step, key_step, head_step;

  T* at(int64_t image, int64_t key, int64_t head) const {
    return data + image * image_step + key * key_step + head * head_step;
  }
};

// Everything one call needs. Queries are scaled so that a dot product with a key is the exponent of
// two. Queries and outputs are contiguous [B, Q, M, depth], numbers per query [B, Q, M].
template <typename T>
struct Attention {
  int64_t batch, queries, keys, heads, depth;  // depth is padded
  const PackedMask* mask;
  int64_t group_heads, parts;  // division among threads
  const T* query;
  Rows<const T> key, value;
  T* output;
  T* logsumexp;  // natural in the forward pass, base 2 in the backward pass
  // Backward only.
  const T* grad_output;
  const T* delta;  // sum of output times its gradient
  T* grad_query;
  Rows<T> grad_key, grad_value;

  int64_t item(int64_t image, int64_t query_number, int64_t head) const {
    return (image * queries + query_number) * heads + head;
  }
  // Whether all heads read the same keys and values.
  bool heads_share_rows() const {
    return heads > 1 && key.head_step == 0 && value.head_step == 0;
  }
  int64_t groups() const { return (heads + group_heads - 1) / group_heads; }
  int64_t units() const { return batch * groups() * parts; }
};

// One unit of work.
struct Unit {
  int64_t image, first_head, heads;
  std::vector<std::vector<int32_t>> tiles;  // rows of each dense tile
  std::vector<int32_t> sparse;
};

template <typename T>
Unit make_unit(const Attention<T>& a, int64_t index, int64_t tile_rows) {
  const int64_t part = index % a.parts, group = index / a.parts % a.groups();
  Unit unit{index / a.parts / a.groups(), group * a.group_heads, 0, {}, {}};
  unit.heads = std::min(a.group_heads, a.heads - unit.first_head);
  const RowLists& lists = a.mask->images[unit.image];
  const int64_t dense = lists.dense.size(), sparse = lists.sparse.size();
  for (int64_t start = part * tile_rows; start < dense; start += a.parts * tile_rows) {
    const auto from = lists.dense.begin() + start;
    unit.tiles.emplace_back(from, from + std::min(tile_rows, dense - start));
  }
  for (int64_t row = part; row < sparse; row += a.parts) unit.sparse.push_back(lists.sparse[row]);
  return unit;
}

// The keys of the sparse rows in one block, a list per row. The last key is repeated up to a whole
// group, so that vectors of them may be read.
struct KeyLists {
  static constexpr int64_t kGroup = 8, kRoom = kKeyBlock + kGroup;
  explicit KeyLists(int64_t rows) : counts(rows), keys(rows * kRoom) {}
  std::vector<int32_t> counts;
  std::vector<uint16_t> keys;

  const uint16_t* row(int64_t index) const { return keys.data() + index * kRoom; }
  void read(const PackedMask& mask, const Unit& unit, int64_t first_key) {
    for (size_t row = 0; row < unit.sparse.size(); ++row) {
      uint16_t* list = keys.data() + row * kRoom;
      const int64_t count =
          list_keys(mask.row(unit.image, unit.sparse[row]) + first_key / 64, list);
      counts[row] = static_cast<int32_t>(count);
      if (count) std::fill_n(list + count, kGroup, list[count - 1]);
    }
  }
};

// The items of a tile's rows, see Attention::item.
typedef std::vector<int64_t> TileItems;

template <typename T>
TileItems list_items(const Attention<T>& a, int64_t image, const std::vector<int32_t>& rows,
                     int64_t head) {
  TileItems items;
  for (const int32_t row : rows) items.push_back(a.item(image, row, head));
  return items;
}

// Copies items of contiguous [B, Q, M, depth] to [depth, columns], the other columns zero.
template <typename T>
AMODAL2_INLINE void pack_panel(const Attention<T>& a, const T* from, const TileItems& items,
                               T* panel, int64_t columns) {
  std::fill_n(panel, a.depth * columns, T(0));
  for (size_t row = 0; row < items.size(); ++row) {
    const T* source = from + items[row] * a.depth;
    for (int64_t d = 0; d < a.depth; ++d) panel[d * columns + row] = source[d];
  }
}

// Lanes of a vector whose row of the tile may attend to a key; `first` is the row of lane 0.
template <typename T, int kBytes>
AMODAL2_INLINE typename Vector<T, kBytes>::Integers allowed_lanes(uint32_t key_bits, int first) {
  typedef typename Vector<T, kBytes>::Integers I;
  I lane_bits;
  for (int lane = 0; lane < Vector<T, kBytes>::kLanes; ++lane) lane_bits[lane] = 1 << lane;
  const I bits = I{} + static_cast<typename Vector<T, kBytes>::Integer>(key_bits >> first);
  return (bits & lane_bits) != 0;
}

}  // namespace amodal2
