// Masked attention on the CPU, forward: blocks of keys one after the other with an online softmax.
//
// Rows with many keys form tiles of kTileVectors vectors with one row per lane: a block's scores are
// a small matrix product, their maxima and sums go along the lanes, and so does the product with the
// values. Rows with few keys take them one by one from a list.
#pragma once

#include <limits>
#include <vector>

#include "masked_attention/masked_attention_problem.h"

namespace amodal2 {

// Below every score; its half is where running maxima begin, so that the difference is finite.
template <typename T>
constexpr T kLowest = std::numeric_limits<T>::lowest();

// Running maximum, sum and output of one tile, [depth, rows].
template <typename T>
struct TileState {
  T *largest, *total, *output;
};

template <typename T, int kBytes, int kVectors>
AMODAL2_INLINE void soften_tile(const TileMask& mask, int64_t keys, T* scores,
                                const TileState<T>& state, int64_t depth) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes, kColumns = kTileVectors * kLanes;
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
    const V shrink = exp2_lanes<T, kBytes>(before[v] - largest[v]);
    total[v] = load_vector<V>(state.total + v * kLanes) * shrink;
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

template <typename T, int kBytes, int kVectors>
AMODAL2_INLINE void forward_tile(const Attention<T>& a, const T* panel, const T* key,
                                 const T* value, const TileMask& mask, int64_t keys, T* scores,
                                 const TileState<T>& state) {
  constexpr int kColumns = kTileVectors * Vector<T, kBytes>::kLanes;
  multiply_columns<T, kBytes, kVectors, false>(key, a.key.key_step, 1, panel, kColumns, scores,
                                               kColumns, keys, a.depth);
  soften_tile<T, kBytes, kVectors>(mask, keys, scores, state, a.depth);
  multiply_columns<T, kBytes, kVectors, true>(value, 1, a.value.key_step, scores, kColumns,
                                              state.output, kColumns, a.depth, keys);
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

// The running results of a unit.
template <typename T>
struct ForwardState {
  ForwardState(const Unit& unit, int64_t depth, int64_t columns)
      : tile_size(columns * depth),
        panels(unit.heads * unit.tiles.size() * tile_size, T(0)),
        tile_output(panels.size(), T(0)),
        tile_largest(panels.size() / depth, kLowest<T> / 2),
        tile_total(tile_largest.size(), T(0)),
        row_output(unit.heads * unit.sparse.size() * depth, T(0)),
        row_largest(unit.heads * unit.sparse.size(), kLowest<T> / 2),
        row_total(row_largest.size(), T(0)) {}

  int64_t tile_size;
  std::vector<T> panels, tile_output, tile_largest, tile_total;
  std::vector<T> row_output, row_largest, row_total;

  TileState<T> tile(int64_t index, int64_t columns) {
    return {&tile_largest[index * columns], &tile_total[index * columns],
            &tile_output[index * tile_size]};
  }
};

// Divides the running outputs by the sums and writes them to their places.
template <typename T, int kBytes>
AMODAL2_INLINE void finish_forward(const Attention<T>& a, const Unit& unit,
                                   ForwardState<T>& state) {
  constexpr int64_t kColumns = kTileVectors * Vector<T, kBytes>::kLanes;
  const int64_t tiles = unit.tiles.size(), sparse = unit.sparse.size();
  for (int64_t head = 0; head < unit.heads; ++head) {
    for (int64_t index = 0; index < tiles; ++index) {
      const TileState<T> tile = state.tile(head * tiles + index, kColumns);
      for (size_t row = 0; row < unit.tiles[index].size(); ++row) {
        const int64_t item = a.item(unit.image, unit.tiles[index][row], unit.first_head + head);
        for (int64_t d = 0; d < a.depth; ++d) {
          a.output[item * a.depth + d] = tile.output[d * kColumns + row] / tile.total[row];
        }
        a.logsumexp[item] = (tile.largest[row] + std::log2(tile.total[row])) * T(kLn2);
      }
    }
    for (int64_t row = 0; row < sparse; ++row) {
      const int64_t item = a.item(unit.image, unit.sparse[row], unit.first_head + head);
      const int64_t at = head * sparse + row;
      for (int64_t d = 0; d < a.depth; ++d) {
        a.output[item * a.depth + d] = state.row_output[at * a.depth + d] / state.row_total[at];
      }
      a.logsumexp[item] = (state.row_largest[at] + std::log2(state.row_total[at])) * T(kLn2);
    }
  }
}

template <typename T, int kBytes>
AMODAL2_INLINE void forward_unit(const Attention<T>& a, const Unit& unit) {
  constexpr int64_t kColumns = kTileVectors * Vector<T, kBytes>::kLanes;
  constexpr int64_t kLanes = Vector<T, kBytes>::kLanes;
  const int64_t tiles = unit.tiles.size(), sparse = unit.sparse.size();
  ForwardState<T> state(unit, a.depth, kColumns);
  for (int64_t index = 0; index < unit.heads * tiles; ++index) {
    pack_panel(a, a.query, unit.image, unit.first_head + index / tiles, unit.tiles[index % tiles],
               &state.panels[index * state.tile_size], kColumns);
  }
  KeyLists lists(sparse);
  std::vector<TileMask> masks(tiles);
  std::vector<T> scores(kKeyBlock * kColumns), weights(kKeyBlock + 2 * kLanes);
  for (int64_t block = 0; block < a.mask->period; block += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, a.mask->period - block);
    lists.read(*a.mask, unit, block);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      read_tile_mask(*a.mask, unit.image, unit.tiles[tile].data(), unit.tiles[tile].size(), block,
                     keys, masks[tile]);
    }
    for (int64_t first = block; first < a.keys; first += a.mask->period) {
      for (int64_t head = 0; head < unit.heads; ++head) {
        const T* key = a.key.at(unit.image, first, unit.first_head + head);
        const T* value = a.value.at(unit.image, first, unit.first_head + head);
        for (int64_t tile = 0; tile < tiles; ++tile) {
          if (masks[tile].cover == Cover::kNone) continue;
          const int64_t index = head * tiles + tile;
          const T* panel = &state.panels[index * state.tile_size];
          const TileState<T> running = state.tile(index, kColumns);
          switch ((unit.tiles[tile].size() + kLanes - 1) / kLanes) {
            case 1:
              forward_tile<T, kBytes, 1>(a, panel, key, value, masks[tile], keys, scores.data(),
                                         running);
              break;
            case 2:
              forward_tile<T, kBytes, 2>(a, panel, key, value, masks[tile], keys, scores.data(),
                                         running);
              break;
            default:
              forward_tile<T, kBytes, 3>(a, panel, key, value, masks[tile], keys, scores.data(),
                                         running);
          }
        }
        for (int64_t row = 0; row < sparse; ++row) {
          if (!lists.counts[row]) continue;
          const int64_t at = head * sparse + row;
          const int64_t item = a.item(unit.image, unit.sparse[row], unit.first_head + head);
          forward_row<T, kBytes>(a, a.query + item * a.depth, key, value,
                                 &lists.keys[row * KeyLists::kRoom], lists.counts[row],
                                 weights.data(), state.row_largest[at], state.row_total[at],
                                 &state.row_output[at * a.depth]);
        }
      }
    }
  }
  finish_forward<T, kBytes>(a, unit, state);
}

}  // namespace amodal2
