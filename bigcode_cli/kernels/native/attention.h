// Attention of some queries to the slots of one key head. Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include "product.h"
#include "vectors.h"

namespace bigcode {
namespace {

static_assert(kSlots % kLanes == 0 && kStrip % kSlots == 0, "vectors do not cross blocks or strips");

// A query's number i, in strips.
inline float *in_strip(float *strips, int query, int i) {
  return strips + (int64_t{i / kStrip} * kStripRows + query) * kStripApart + i % kStrip;
}

// Calls `body(first, how many)` for what of `count` numbers is in each strip.
template <typename Body>
inline void each_strip(int count, const Body &body) {
  for (int i = 0; i < count; i += kStrip) body(i, std::min(kStrip, count - i));
}

// Products of all queries with the keys of some vectors of slots.
template <int kQueries, int kVectors>
inline void score_vectors(const Attention &task, float *asked, int slot, float *scores) {
  const float *keys[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int first = slot + v * kLanes;
    keys[v] = task.cache + first / kSlots * block_size(task.dim) + first % kSlots;
  }
  Floats sums[kQueries][kVectors] = {};
  each_strip(task.dim, [&](int i, int count) {
    const float *numbers[kVectors];
    for (int v = 0; v < kVectors; ++v) numbers[v] = keys[v] + i * kSlots;
    add_products<kQueries, kVectors>(numbers, kSlots, in_strip(asked, 0, i), count, sums);
  });
  for (int t = 0; t < kQueries; ++t) {
    for (int v = 0; v < kVectors; ++v) store(in_strip(scores, t, slot + v * kLanes), sums[t][v]);
  }
}

// Exponentials of a query's scores take their places; 0 where it does not see. Gives 1 over their sum.
inline float weigh_strips(float *scores, int query, int seen, int slots) {
  float most = -std::numeric_limits<float>::infinity();
  each_strip(seen, [&](int slot, int count) {
    // In this order NaN is not passed over.
    const float highest = highest_of(in_strip(scores, query, slot), count);
    most = most > highest ? most : highest;
  });
  double total = 0;
  each_strip(seen, [&](int slot, int count) {
    float *row = in_strip(scores, query, slot);
    total += weigh(row, count, most, row);
  });
  for (int slot = seen; slot < slots; ++slot) *in_strip(scores, query, slot) = 0;
  return static_cast<float>(1 / total);
}

// The sum of values, weighted: of all queries some vectors of columns.
template <int kQueries, int kVectors>
inline void mix_columns(const Attention &task, float *weights, int slots, int column,
                        const float (&inverse)[kQueries], float *const (&out)[kQueries]) {
  Floats sums[kQueries][kVectors] = {};
  for (int slot = 0; slot < slots; slot += kSlots) {
    const float *values =
        task.cache + slot / kSlots * block_size(task.dim) + kSlots * task.dim + column;
    const float *rows[kVectors];
    for (int v = 0; v < kVectors; ++v) rows[v] = values + v * kLanes;
    add_products<kQueries, kVectors>(rows, task.dim, in_strip(weights, 0, slot),
                                     std::min(kSlots, slots - slot), sums);
  }
  for (int t = 0; t < kQueries; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      store(out[t] + column + v * kLanes, sums[t][v] * inverse[t]);
    }
  }
}

template <int kQueries>
inline void mix(const Attention &task, float *weights, int slots, const float (&inverse)[kQueries],
                float *const (&out)[kQueries]) {
  int column = 0;
  for (; column + 2 * kLanes <= task.dim; column += 2 * kLanes) {
    mix_columns<kQueries, 2>(task, weights, slots, column, inverse, out);
  }
  for (; column + kLanes <= task.dim; column += kLanes) {
    mix_columns<kQueries, 1>(task, weights, slots, column, inverse, out);
  }
  for (; column < task.dim; ++column) {
    for (int t = 0; t < kQueries; ++t) {
      float total = 0;
      for (int slot = 0; slot < slots; ++slot) {
        const float *values =
            task.cache + slot / kSlots * block_size(task.dim) + kSlots * task.dim + column;
        total += *in_strip(weights, t, slot) * values[slot % kSlots * task.dim];
      }
      out[t][column] = total * inverse[t];
    }
  }
}

template <int kQueries>
inline void attend_some(const Attention &task, int first) {
  float *out[kQueries], *asked = task.scratch, *scores = asked + strips_of(task.dim);
  int seen[kQueries], most = 0;
  for (int t = 0; t < kQueries; ++t) {
    const int query = first + t, token = query / task.heads;
    const int64_t in_token = int64_t{query % task.heads} * task.dim;
    const float *numbers = task.queries + int64_t{token} * task.query_stride + in_token;
    for (int i = 0; i < task.dim; ++i) *in_strip(asked, t, i) = numbers[i] * task.factor;
    out[t] = task.out + int64_t{token} * task.out_stride + in_token;
    seen[t] = task.past + token + 1;
    most = std::max(most, seen[t]);
  }
  const int vectors = (most + kLanes - 1) / kLanes;
  for (int v = 0; v < vectors; v += kVectorsAt) {
    with_constant<kVectorsAt>(vectors - v, [&](auto some) {
      score_vectors<kQueries, decltype(some)::value>(task, asked, v * kLanes, scores);
    });
  }
  float inverse[kQueries];
  for (int t = 0; t < kQueries; ++t) inverse[t] = weigh_strips(scores, t, seen[t], most);
  mix<kQueries>(task, scores, most, inverse, out);
}

void attend(const Attention &task) {
  passing(task.count, [&](int query, auto some) {
    attend_some<decltype(some)::value>(task, task.first + query);
  });
}

}  // namespace
}  // namespace bigcode
