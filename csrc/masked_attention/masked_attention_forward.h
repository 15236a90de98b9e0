// Masked attention on the CPU, forward: blocks of keys one after the other with an online softmax.
//
// Rows with many keys form tiles of kTileVectors vectors with one row per lane: a block's scores are
// a small matrix product, their maxima and sums go along the lanes, and so does the product with the
// values. Rows with few keys take them one by one from a list, head by head; if the heads share their
// keys, the heads of such a row form a tile instead, whose keys are first copied side by side.
#pragma once

#include <limits>
#include <numeric>
#include <vector>

#include "masked_attention/masked_attention_problem.h"

namespace amodal2 {

// Below every score; its half is where running maxima begin, so that the difference is finite.
template <typename T>
constexpr T kLowest = std::numeric_limits<T>::lowest();

// Running maximum, sum and output of one tile, [depth, columns]. Like the panel and the scores it has
// as many columns as the vectors that its rows need.
template <typename T>
struct TileState {
  T *largest, *total, *output;
};

template <typename T, int kBytes, int kVectors>
AMODAL2_INLINE void soften_tile(const TileMask& mask, int64_t keys, T* scores,
                                const TileState<T>& state, int64_t depth) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes, kColumns = kVectors * kLanes;
  V largest[kVectors], before[kVectors], total[kVectors], sum[kVectors] = {};
  for (int v = 0; v < kVectors; ++v) {
    before[v] = largest[v] = load_vector<V>(state.largest + v * kLanes);
  }
  for (int64_t key = 0; key < keys; ++key) {
    for (int v = 0; v < kVectors; ++v) {
      T* at = scores + key * kColumns + v * kLanes;
      V score = load_vector<V>(at);
      if (mask.cover == Cover::kSome) {
        const auto allowed = allowed_lanes<T, kBytes>(mask.keys[key], v * kLanes);
        score = allowed ? score : V{} + kLowest<T>;
        store_vector(at, score);
      }
      largest[v] = larger(score, largest[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    total[v] = load_vector<V>(state.total + v * kLanes);
    if (!any_lane<T, kBytes>(largest[v] > before[v])) continue;
    const V shrink = exp2_lanes<T, kBytes>(before[v] - largest[v]);
    total[v] *= shrink;
    store_vector(state.largest + v * kLanes, largest[v]);
    for (int64_t d = 0; d < depth; ++d) {
      T* at = state.output + d * kColumns + v * kLanes;
      store_vector(at, V(load_vector<V>(at) * shrink));
    }
  }
  for (int64_t key = 0; key < keys; ++key) {
    for (int v = 0; v < kVectors; ++v) {
      T* at = scores + key * kColumns + v * kLanes;
      const V weight = exp2_lanes<T, kBytes>(load_vector<V>(at) - largest[v]);
      sum[v] += weight;
      store_vector(at, weight);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    store_vector(state.total + v * kLanes, V(total[v] + sum[v]));
  }
}

// The keys and values of a block that a tile reads.
template <typename T>
struct BlockRows {
  const T *key, *value;
  int64_t key_step, value_step, count;
};

template <typename T, int kBytes, int kVectors>
AMODAL2_INLINE void forward_tile(int64_t depth, const T* panel, const BlockRows<T>& rows,
                                 const TileMask& mask, T* scores, const TileState<T>& state) {
  constexpr int kColumns = kVectors * Vector<T, kBytes>::kLanes;
  multiply_columns<T, kBytes, kVectors, false>(rows.key, rows.key_step, 1, panel, kColumns, scores,
                                               kColumns, rows.count, depth);
  soften_tile<T, kBytes, kVectors>(mask, rows.count, scores, state, depth);
  multiply_columns<T, kBytes, kVectors, true>(rows.value, 1, rows.value_step, scores, kColumns,
                                              state.output, kColumns, depth, rows.count);
}

// Takes the listed keys of a block into the running maximum, sum and output of one row.
template <typename T, int kBytes>
AMODAL2_INLINE void forward_row(const Attention<T>& a, const T* query, const T* key,
                                const T* value, const uint16_t* list, int64_t count, T* weights,
                                T& largest, T& total, T* output) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  const int64_t blocks = a.depth / kLanes;
  V top = V{} + largest, sum = {};
  dot_all_listed<T, kBytes>(key, a.key.key_step, list, count, query, weights, blocks);
  for (int64_t i = 0; i < count; i += kLanes) top = larger(load_vector<V>(weights + i), top);
  T most = top[0];
  for (int lane = 1; lane < kLanes; ++lane) most = top[lane] > most ? top[lane] : most;
  std::fill_n(weights + count, kLanes, kLowest<T>);
  for (int64_t i = 0; i < count; i += kLanes) {
    const V weight = exp2_lanes<T, kBytes>(load_vector<V>(weights + i) - most);
    sum += weight;
    store_vector(weights + i, weight);
  }
  if (!(most == largest)) {
    const T shrink = exp2_lanes<T, kBytes>(V{} + (largest - most))[0];
    total *= shrink;
    for (int64_t b = 0; b < blocks; ++b) {
      store_vector(output + b * kLanes, V(load_vector<V>(output + b * kLanes) * shrink));
    }
    largest = most;
  }
  for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
  add_listed<T, kBytes>(value, a.value.key_step, list, weights, count, output, blocks);
}

// The running results of a unit: its tiles, head by head, then those of sparse rows whose heads are
// taken together, or else the sparse rows.
template <typename T>
struct ForwardState {
  ForwardState(const Attention<T>& a, const Unit& unit, int64_t lanes)
      : lanes(lanes),
        columns(kTileVectors * lanes),
        tile_size(columns * a.depth),
        gathered(a.heads_share_rows() && unit.heads <= columns) {
    for (int64_t head = unit.first_head; head < unit.first_head + unit.heads; ++head) {
      for (const auto& rows : unit.tiles) items.push_back(list_items(a, unit.image, rows, head));
      if (gathered) continue;
      for (const int32_t row : unit.sparse) row_items.push_back(a.item(unit.image, row, head));
    }
    for (size_t row = 0; gathered && row < unit.sparse.size(); ++row) {
      TileItems heads(unit.heads);
      std::iota(heads.begin(), heads.end(),
                a.item(unit.image, unit.sparse[row], unit.first_head));
      items.push_back(heads);
    }
    panels.resize(items.size() * tile_size);
    for (size_t index = 0; index < items.size(); ++index) {
      pack_panel(a, a.query, items[index], &panels[index * tile_size],
                 vectors(index) * lanes);
    }
    tile_output.assign(panels.size(), T(0));
    tile_largest.assign(items.size() * columns, kLowest<T> / 2);
    tile_total.assign(tile_largest.size(), T(0));
    row_output.assign(row_items.size() * a.depth, T(0));
    row_largest.assign(row_items.size(), kLowest<T> / 2);
    row_total.assign(row_items.size(), T(0));
  }

  int64_t lanes, columns, tile_size;  // columns, tile_size: room of a tile
  bool gathered;
  std::vector<TileItems> items;
  std::vector<int64_t> row_items;
  std::vector<T> panels, tile_output, tile_largest, tile_total;
  std::vector<T> row_output, row_largest, row_total;

  int64_t vectors(int64_t index) const {
    return (static_cast<int64_t>(items[index].size()) + lanes - 1) / lanes;
  }
  TileState<T> tile(int64_t index) {
    return {&tile_largest[index * columns], &tile_total[index * columns],
            &tile_output[index * tile_size]};
  }
};

// Divides the running outputs by the sums and writes them to their places.
template <typename T>
void finish_forward(const Attention<T>& a, ForwardState<T>& state) {
  for (size_t index = 0; index < state.items.size(); ++index) {
    const TileState<T> tile = state.tile(index);
    const int64_t columns = state.vectors(index) * state.lanes;
    for (size_t row = 0; row < state.items[index].size(); ++row) {
      const int64_t item = state.items[index][row];
      for (int64_t d = 0; d < a.depth; ++d) {
        a.output[item * a.depth + d] = tile.output[d * columns + row] / tile.total[row];
      }
      a.logsumexp[item] = (tile.largest[row] + std::log2(tile.total[row])) * T(kLn2);
    }
  }
  for (size_t row = 0; row < state.row_items.size(); ++row) {
    const int64_t item = state.row_items[row];
    for (int64_t d = 0; d < a.depth; ++d) {
      a.output[item * a.depth + d] = state.row_output[row * a.depth + d] / state.row_total[row];
    }
    a.logsumexp[item] = (state.row_largest[row] + std::log2(state.row_total[row])) * T(kLn2);
  }
}

// Room for the listed rows of a block, side by side.
template <typename T>
struct GatheredRows {
  explicit GatheredRows(int64_t size) : keys(size), values(size) {}
  std::vector<T> keys, values;

  BlockRows<T> gather(const BlockRows<T>& rows, const uint16_t* list, int64_t count,
                      int64_t depth) {
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(rows.key + list[i] * rows.key_step, depth, &keys[i * depth]);
      std::copy_n(rows.value + list[i] * rows.value_step, depth, &values[i * depth]);
    }
    return {keys.data(), values.data(), depth, depth, count};
  }
};

template <typename T, int kBytes>
AMODAL2_INLINE void forward_unit(const Attention<T>& a, const Unit& unit) {
  constexpr int64_t kLanes = Vector<T, kBytes>::kLanes, kColumns = kTileVectors * kLanes;
  const int64_t tiles = unit.tiles.size(), sparse = unit.sparse.size();
  ForwardState<T> state(a, unit, kLanes);
  GatheredRows<T> gathered(state.gathered ? kKeyBlock * a.depth : 0);
  KeyLists lists(sparse);
  std::vector<TileMask> masks(tiles + 1, TileMask{Cover::kAll, {}});  // the last for gathered rows
  std::vector<T> scores(kKeyBlock * kColumns), weights(kKeyBlock + 2 * kLanes);
  const int64_t dense = unit.heads * tiles, rows = state.row_items.size();
  for (int64_t block = 0; block < a.mask->period; block += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, a.mask->period - block);
    lists.read(*a.mask, unit, block);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      read_tile_mask(*a.mask, unit.image, unit.tiles[tile].data(), unit.tiles[tile].size(), block,
                     keys, masks[tile]);
    }
    for (int64_t first = block; first < a.keys; first += a.mask->period) {
      for (int64_t index = 0; index < static_cast<int64_t>(state.items.size()); ++index) {
        const int64_t row = index - dense, head = row < 0 ? unit.first_head + index / tiles : 0;
        const TileMask& mask = masks[row < 0 ? index % tiles : tiles];
        if (row < 0 ? mask.cover == Cover::kNone : lists.counts[row] == 0) continue;
        BlockRows<T> from{a.key.at(unit.image, first, head), a.value.at(unit.image, first, head),
                          a.key.key_step, a.value.key_step, keys};
        if (row >= 0) {
          from = gathered.gather(from, lists.row(row), lists.counts[row], a.depth);
        }
        const T* panel = &state.panels[index * state.tile_size];
        const TileState<T> running = state.tile(index);
        switch (state.vectors(index)) {
          case 1:
            forward_tile<T, kBytes, 1>(a.depth, panel, from, mask, scores.data(), running);
            break;
          case 2:
            forward_tile<T, kBytes, 2>(a.depth, panel, from, mask, scores.data(), running);
            break;
          default:
            forward_tile<T, kBytes, 3>(a.depth, panel, from, mask, scores.data(), running);
        }
      }
      for (int64_t at = 0; at < rows; ++at) {
        const int64_t row = at % sparse, head = unit.first_head + at / sparse;
        if (!lists.counts[row]) continue;
        forward_row<T, kBytes>(a, a.query + state.row_items[at] * a.depth,
                               a.key.at(unit.image, first, head),
                               a.value.at(unit.image, first, head), lists.row(row),
                               lists.counts[row], weights.data(), state.row_largest[at],
                               state.row_total[at], &state.row_output[at * a.depth]);
      }
    }
  }
  finish_forward(a, state);
}

}  // namespace amodal2
