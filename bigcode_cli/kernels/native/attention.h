// Attention of some queries to the slots of one key head. Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include "product.h"
#include "vectors.h"

namespace bigcode {
namespace {

// out[token] (+)= the sum of `slots` values, weighted: `kTokens` queries by some columns at a time.
template <int kTokens, int kVectors>
inline void mix_tile(const float *weights, int64_t weight_stride, const float *values,
                     int64_t slot_stride, int slots, float *const (&out)[kTokens]) {
  Floats sums[kTokens][kVectors] = {};
  for (int slot = 0; slot < slots; ++slot) {
    Floats value[kVectors];
    for (int v = 0; v < kVectors; ++v) value[v] = floats(values + slot * slot_stride + v * kLanes);
    for (int t = 0; t < kTokens; ++t) {
      const Floats weight = all(weights[t * weight_stride + slot]);
      for (int v = 0; v < kVectors; ++v) sums[t][v] += weight * value[v];
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) store(out[t] + v * kLanes, sums[t][v]);
  }
}

template <int kTokens>
inline void mix(const float *weights, int64_t weight_stride, const float *values, int dim,
                int slots, float *const (&out)[kTokens]) {
  constexpr int kVectors = kTokens > 2 ? 4 : 2;
  int column = 0;
  float *to[kTokens];
  const auto across = [&](auto vectors) {
    constexpr int kSome = decltype(vectors)::value;
    for (; column + kSome * kLanes <= dim; column += kSome * kLanes) {
      for (int t = 0; t < kTokens; ++t) to[t] = out[t] + column;
      mix_tile<kTokens, kSome>(weights, weight_stride, values + column, 2 * dim, slots, to);
    }
  };
  across(std::integral_constant<int, kVectors>{});
  across(std::integral_constant<int, 1>{});
  for (; column < dim; ++column) {
    for (int t = 0; t < kTokens; ++t) {
      float total = 0;
      for (int slot = 0; slot < slots; ++slot) {
        total += weights[t * weight_stride + slot] * values[slot * int64_t{2} * dim + column];
      }
      out[t][column] = total;
    }
  }
}

// Scores, softmax and sum for `kTokens` queries, all of which see some slots at least.
template <int kTokens>
inline void attend_some(const Attention &task, int first) {
  const int dim = task.dim;
  const float *queries[kTokens];
  float *out[kTokens];
  int seen[kTokens], most = 0;
  for (int t = 0; t < kTokens; ++t) {
    const int query = first + t, token = query / task.heads;
    const int64_t in_token = int64_t{query % task.heads} * dim;
    queries[t] = task.queries + int64_t{token} * task.query_stride + in_token;
    out[t] = task.out + int64_t{token} * task.out_stride + in_token;
    seen[t] = task.past + token + 1;
    most = std::max(most, seen[t]);
  }
  // Queries of two tokens do not lie at one distance: they are brought together.
  float *asked = task.scratch, *scores = task.scratch + kTokens * dim;
  for (int t = 0; t < kTokens; ++t) {
    for (int i = 0; i < dim; ++i) asked[t * dim + i] = queries[t][i] * task.factor;
  }
  tiles<kTileRows, kTokens>(most, kTokens, [&](auto rows, auto tokens, int slot, int token) {
    constexpr int kRows = decltype(rows)::value, kSome = decltype(tokens)::value;
    float some[kSome][kRows];
    float_tile<float, kRows, kSome>(task.cache + slot * int64_t{2} * dim, 2 * dim,
                                    asked + token * dim, dim, dim, some);
    for (int t = 0; t < kSome; ++t) {
      for (int r = 0; r < kRows; ++r) scores[(token + t) * int64_t{most} + slot + r] = some[t][r];
    }
  });
  float inverse[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    float *row = scores + t * int64_t{most};
    const double total = weigh(row, seen[t], highest_of(row, seen[t]), row);
    inverse[t] = static_cast<float>(1 / total);
    for (int slot = seen[t]; slot < most; ++slot) row[slot] = 0;
  }
  mix<kTokens>(scores, most, task.cache + dim, dim, most, out);
  for (int t = 0; t < kTokens; ++t) {
    for (int i = 0; i < dim; ++i) out[t][i] *= inverse[t];
  }
}

void attend(const Attention &task) {
  int query = task.first;
  const int end = task.first + task.count;
  for (; query + 4 <= end; query += 4) attend_some<4>(task, query);
  for (; query + 2 <= end; query += 2) attend_some<2>(task, query);
  for (; query < end; ++query) attend_some<1>(task, query);
}

}  // namespace
}  // namespace bigcode
