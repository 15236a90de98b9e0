// Masked attention on the CPU, backward: the weights are computed again from the saved logsumexp.
//
// A unit owns the key and value gradients of its heads, so nothing is added twice and the order of
// the sums is fixed. Score gradients carry a factor ln 2, since queries carry its inverse: with it
// the key gradients are right as they are, and the query gradients are scaled at the end.
#pragma once

#include <vector>

#include "masked_attention/masked_attention_problem.h"

namespace amodal2 {

// The queries and output gradients of one tile, columns [depth, rows] and rows [rows, depth].
template <typename T>
struct TilePanels {
  const T *query_columns, *grad_columns, *query_rows, *grad_rows, *logsumexp, *delta;
  T* grad_query;  // columns
};

// All tiles of a unit, one head after the other.
template <typename T>
struct BackwardState {
  BackwardState(const Attention<T>& a, const Unit& unit, int64_t columns)
      : columns(columns),
        size(columns * a.depth),
        panels(5 * unit.heads * unit.tiles.size() * size, T(0)),
        numbers(2 * unit.heads * unit.tiles.size() * columns, T(0)) {
    const int64_t tiles = unit.tiles.size();
    for (int64_t index = 0; index < unit.heads * tiles; ++index) {
      const TileItems items = list_items(a, unit.image, unit.tiles[index % tiles],
                                         unit.first_head + index / tiles);
      T *panel = &panels[5 * index * size], *number = &numbers[2 * index * columns];
      pack_panel(a, a.query, items, panel, columns);
      pack_panel(a, a.grad_output, items, panel + size, columns);
      for (size_t row = 0; row < items.size(); ++row) {
        const int64_t item = items[row];
        std::copy_n(a.query + item * a.depth, a.depth, panel + 2 * size + row * a.depth);
        std::copy_n(a.grad_output + item * a.depth, a.depth, panel + 3 * size + row * a.depth);
        number[row] = a.logsumexp[item];
        number[columns + row] = a.delta[item];
      }
    }
  }

  int64_t columns, size;
  std::vector<T> panels, numbers;

  TilePanels<T> tile(int64_t index) {
    T *panel = &panels[5 * index * size], *number = &numbers[2 * index * columns];
    return {panel,  panel + size,     panel + 2 * size, panel + 3 * size,
            number, number + columns, panel + 4 * size};
  }
};

// Turns scores into weights and weight gradients into score gradients.
template <typename T, int kBytes, int kVectors>
AMODAL2_INLINE void differentiate_tile(const TileMask& mask, int64_t keys,
                                       const TilePanels<T>& tile, T* weights, T* grads) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes, kColumns = kTileVectors * kLanes;
  for (int v = 0; v < kVectors; ++v) {
    const V logsumexp = load_vector<V>(tile.logsumexp + v * kLanes);
    const V delta = load_vector<V>(tile.delta + v * kLanes);
    for (int64_t key = 0; key < keys; ++key) {
      const int64_t at = key * kColumns + v * kLanes;
      V weight = exp2_lanes<T, kBytes>(load_vector<V>(weights + at) - logsumexp);
      if (mask.cover == Cover::kSome) {
        weight = allowed_lanes<T, kBytes>(mask.keys[key], v * kLanes) ? weight : V{};
      }
      store_vector(weights + at, weight);
      store_vector(grads + at, V(weight * (load_vector<V>(grads + at) - delta) * T(kLn2)));
    }
  }
}

template <typename T, int kBytes, int kVectors>
AMODAL2_INLINE void backward_tile(const Attention<T>& a, const TilePanels<T>& tile,
                                  int64_t rows, const T* key, const T* value, T* grad_key,
                                  T* grad_value, const TileMask& mask, int64_t keys, T* weights,
                                  T* grads) {
  constexpr int kLanes = Vector<T, kBytes>::kLanes, kColumns = kTileVectors * kLanes;
  const int64_t blocks = a.depth / kLanes;
  multiply_columns<T, kBytes, kVectors, false>(key, a.key.key_step, 1, tile.query_columns,
                                               kColumns, weights, kColumns, keys, a.depth);
  multiply_columns<T, kBytes, kVectors, false>(value, a.value.key_step, 1, tile.grad_columns,
                                               kColumns, grads, kColumns, keys, a.depth);
  differentiate_tile<T, kBytes, kVectors>(mask, keys, tile, weights, grads);
  multiply_columns<T, kBytes, kVectors, true>(key, 1, a.key.key_step, grads, kColumns,
                                              tile.grad_query, kColumns, a.depth, keys);
  multiply<T, kBytes, true>(grads, kColumns, 1, tile.query_rows, a.depth, grad_key,
                            a.grad_key.key_step, keys, blocks, rows);
  multiply<T, kBytes, true>(weights, kColumns, 1, tile.grad_rows, a.depth, grad_value,
                            a.grad_value.key_step, keys, blocks, rows);
}

// Adds factor times the vector to a row.
template <typename T, int kBytes>
AMODAL2_INLINE void add_scaled(T* row, const T* vector, T factor, int64_t blocks) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  for (int64_t at = 0; at < blocks * kLanes; at += kLanes) {
    store_vector(row + at, V(load_vector<V>(row + at) + load_vector<V>(vector + at) * factor));
  }
}

// Takes the listed keys of a block into the gradients of one row; `weights` and `grads` are scratch.
template <typename T, int kBytes>
AMODAL2_INLINE void backward_row(const Attention<T>& a, int64_t item, const T* key,
                                 const T* value, T* grad_key, T* grad_value,
                                 const uint16_t* list, int64_t count, T* weights, T* grads) {
  typedef typename Vector<T, kBytes>::type V;
  constexpr int kLanes = Vector<T, kBytes>::kLanes;
  const int64_t blocks = a.depth / kLanes;
  const T *query = a.query + item * a.depth, *grad_output = a.grad_output + item * a.depth;
  const V logsumexp = V{} + a.logsumexp[item], delta = V{} + a.delta[item];
  dot_all_listed<T, kBytes>(key, a.key.key_step, list, count, query, weights, blocks);
  dot_all_listed<T, kBytes>(value, a.value.key_step, list, count, grad_output, grads, blocks);
  for (int64_t i = 0; i < count; i += kLanes) {
    const V weight = exp2_lanes<T, kBytes>(load_vector<V>(weights + i) - logsumexp);
    const V grad = load_vector<V>(grads + i) - delta;
    store_vector(weights + i, weight);
    store_vector(grads + i, V(weight * grad * T(kLn2)));
  }
  for (int64_t i = 0; i < count; ++i) {
    add_scaled<T, kBytes>(grad_key + list[i] * a.grad_key.key_step, query, grads[i], blocks);
    add_scaled<T, kBytes>(grad_value + list[i] * a.grad_value.key_step, grad_output, weights[i],
                          blocks);
  }
  add_listed<T, kBytes>(key, a.key.key_step, list, grads, count, a.grad_query + item * a.depth,
                        blocks);
}

template <typename T, int kBytes>
AMODAL2_INLINE void backward_unit(const Attention<T>& a, const Unit& unit) {
  constexpr int64_t kLanes = Vector<T, kBytes>::kLanes, kColumns = kTileVectors * kLanes;
  const int64_t tiles = unit.tiles.size(), sparse = unit.sparse.size();
  BackwardState<T> state(a, unit, kColumns);
  KeyLists lists(sparse);
  std::vector<TileMask> masks(tiles);
  std::vector<T> weights(kKeyBlock * kColumns), grads(weights);
  for (int64_t block = 0; block < a.mask->period; block += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, a.mask->period - block);
    lists.read(*a.mask, unit, block);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      read_tile_mask(*a.mask, unit.image, unit.tiles[tile].data(), unit.tiles[tile].size(), block,
                     keys, masks[tile]);
    }
    for (int64_t first = block; first < a.keys; first += a.mask->period) {
      for (int64_t local = 0; local < unit.heads; ++local) {
        const int64_t head = unit.first_head + local;
        const T* key = a.key.at(unit.image, first, head);
        const T* value = a.value.at(unit.image, first, head);
        T* grad_key = a.grad_key.at(unit.image, first, head);
        T* grad_value = a.grad_value.at(unit.image, first, head);
        for (int64_t tile = 0; tile < tiles; ++tile) {
          if (masks[tile].cover == Cover::kNone) continue;
          const TilePanels<T> panels = state.tile(local * tiles + tile);
          const int64_t rows = unit.tiles[tile].size();
          switch ((rows + kLanes - 1) / kLanes) {
            case 1:
              backward_tile<T, kBytes, 1>(a, panels, rows, key, value, grad_key, grad_value,
                                          masks[tile], keys, weights.data(), grads.data());
              break;
            case 2:
              backward_tile<T, kBytes, 2>(a, panels, rows, key, value, grad_key, grad_value,
                                          masks[tile], keys, weights.data(), grads.data());
              break;
            default:
              backward_tile<T, kBytes, 3>(a, panels, rows, key, value, grad_key, grad_value,
                                          masks[tile], keys, weights.data(), grads.data());
          }
        }
        for (int64_t row = 0; row < sparse; ++row) {
          if (!lists.counts[row]) continue;
          backward_row<T, kBytes>(
              a, a.item(unit.image, unit.sparse[row], head), key, value, grad_key, grad_value,
              lists.row(row), lists.counts[row], weights.data(), grads.data());
        }
      }
    }
  }
  for (int64_t index = 0; index < unit.heads * tiles; ++index) {
    const TileItems items = list_items(a, unit.image, unit.tiles[index % tiles],
                                       unit.first_head + index / tiles);
    const T* grad = state.tile(index).grad_query;
    for (size_t row = 0; row < items.size(); ++row) {
      for (int64_t d = 0; d < a.depth; ++d) {
        a.grad_query[items[row] * a.depth + d] = grad[d * kColumns + row];
      }
    }
  }
}

}  // namespace amodal2
