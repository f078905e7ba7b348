// Attention of some queries to the slots of one key head. Included by the isa_*.cpp alone; see
// vec.h.

#pragma once

#include "product.h"
#include "vectors.h"

namespace bigcode {
namespace {

static_assert(kSlots % kLanes == 0 && kStrip % kSlots == 0, "vectors are within blocks, strips");

// Slots whose values the L1 cache holds while all queries pass.
constexpr int kSlotsAt = 128;

// A query's number i, in strips.
inline float *in_strip(float *strips, int query, int i) {
  return strips + (int64_t{i / kStrip} * kMostQueries + query) * kStripApart + i % kStrip;
}

// Calls `body(first, how many)` for what of `count` numbers is in each strip.
template <typename Body>
inline void each_strip(int count, const Body &body) {
  for (int i = 0; i < count; i += kStrip) body(i, std::min(kStrip, count - i));
}

// Products of some queries with the keys of some vectors of slots.
template <int kQueries, int kVectors>
inline void score_vectors(const Attention &task, float *asked, int query, int slot, float *scores) {
  const float *keys[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int first = slot + v * kLanes;
    keys[v] = task.cache + first / kSlots * block_size(task.dim) + first % kSlots;
  }
  Floats sums[kQueries][kVectors] = {};
  each_strip(task.dim, [&](int i, int count) {
    const float *numbers[kVectors];
    for (int v = 0; v < kVectors; ++v) numbers[v] = keys[v] + i * kSlots;
    add_products<kStripApart, kQueries, kVectors>(numbers, kSlots, in_strip(asked, query, i), count,
                                                  sums);
  });
  for (int t = 0; t < kQueries; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      store(in_strip(scores, query + t, slot + v * kLanes), sums[t][v]);
    }
  }
}

// Exponentials of a query's scores take their places; 0 where it does not see. Gives 1 over their
// sum.
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

// Adds weighted values to sums of some queries: of some vectors of columns.
template <int kQueries, int kVectors>
inline void mix_columns(const Attention &task, float *weights, int query, int slot, int end,
                        int column, float *const *out) {
  Floats sums[kQueries][kVectors];
  for (int t = 0; t < kQueries; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      sums[t][v] = slot > 0 ? floats(out[t] + column + v * kLanes) : Floats{};
    }
  }
  for (; slot < end; slot += kSlots) {
    const float *values =
        task.cache + slot / kSlots * block_size(task.dim) + kSlots * task.dim + column;
    const float *rows[kVectors];
    for (int v = 0; v < kVectors; ++v) rows[v] = values + v * kLanes;
    add_products<kStripApart, kQueries, kVectors>(rows, task.dim, in_strip(weights, query, slot),
                                                  std::min(kSlots, end - slot), sums);
  }
  for (int t = 0; t < kQueries; ++t) {
    for (int v = 0; v < kVectors; ++v) store(out[t] + column + v * kLanes, sums[t][v]);
  }
}

template <int kQueries>
inline void mix(const Attention &task, float *weights, int query, int slot, int end,
                float *const *out) {
  int column = 0;
  for (; column + 2 * kLanes <= task.dim; column += 2 * kLanes) {
    mix_columns<kQueries, 2>(task, weights, query, slot, end, column, out);
  }
  for (; column + kLanes <= task.dim; column += kLanes) {
    mix_columns<kQueries, 1>(task, weights, query, slot, end, column, out);
  }
  for (; column < task.dim; ++column) {
    for (int t = 0; t < kQueries; ++t) {
      float total = slot > 0 ? out[t][column] : 0;
      for (int s = slot; s < end; ++s) {
        const float *values =
            task.cache + s / kSlots * block_size(task.dim) + kSlots * task.dim + column;
        total += *in_strip(weights, query + t, s) * values[s % kSlots * task.dim];
      }
      out[t][column] = total;
    }
  }
}

// Slots are taken a few at a time, and all queries with them: the cache is read once.
void attend(const Attention &task) {
  float *asked = task.scratch, *scores = asked + strips_of(task.dim);
  float *out[kMostQueries], inverse[kMostQueries];
  int seen[kMostQueries];
  for (int t = 0; t < task.count; ++t) {
    const int query = task.first + t, token = query / task.heads;
    const int64_t in_token = int64_t{query % task.heads} * task.dim;
    const float *numbers = task.queries + int64_t{token} * task.query_stride + in_token;
    for (int i = 0; i < task.dim; ++i) *in_strip(asked, t, i) = numbers[i] * task.factor;
    out[t] = task.out + int64_t{token} * task.out_stride + in_token;
    seen[t] = task.past + token + 1;
  }
  // Later queries see no fewer.
  const int most = seen[task.count - 1];
  for (int slot = 0; slot < most; slot += kPanel) {
    passing(task.count, [&](int query, auto some) {
      constexpr int kQueries = decltype(some)::value;
      const int slots = seen[query + kQueries - 1] - slot;
      if (slots <= 0) return;
      with_constant<kVectorsAt>((slots + kLanes - 1) / kLanes, [&](auto vectors) {
        score_vectors<kQueries, decltype(vectors)::value>(task, asked, query, slot, scores);
      });
    });
  }
  passing(task.count, [&](int query, auto some) {
    for (int t = query; t < query + some; ++t) {
      inverse[t] = weigh_strips(scores, t, seen[t], seen[query + some - 1]);
    }
  });
  for (int slot = 0; slot < most; slot += kSlotsAt) {
    passing(task.count, [&](int query, auto some) {
      constexpr int kQueries = decltype(some)::value;
      const int end = std::min(slot + kSlotsAt, seen[query + kQueries - 1]);
      if (slot < end) mix<kQueries>(task, scores, query, slot, end, out + query);
    });
  }
  for (int t = 0; t < task.count; ++t) {
    for (int i = 0; i < task.dim; ++i) out[t][i] *= inverse[t];
  }
}

}  // namespace
}  // namespace bigcode
