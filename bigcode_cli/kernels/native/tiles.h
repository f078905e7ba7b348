// Some rows of a matrix by some tokens: sums that stay in registers.
//
// Both sides are read along the columns, as they lie. Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels.h"
#include "vec.h"

namespace bigcode {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
// Of 32 registers: 24 sums, a vector for each row, one of a token.
constexpr int kTileRows = 4, kTileTokens = 6;
constexpr int kCodeRows = 4, kCodeTokens = 3;
#else
constexpr int kTileRows = 3, kTileTokens = 4;
constexpr int kCodeRows = 2, kCodeTokens = 2;
#endif

// What a row's numbers are to be multiplied by. Those of int4 have a factor for each group instead.
template <typename Number>
inline float scale_of(const Matrix &matrix, int64_t row) {
  return std::is_same_v<Number, int8_t> ? matrix.scales[row] : 1.0f;
}

// Bytes of the rows of the next tile, early: rows are too short for the processor to see where
// reading goes on, and int4 decodes at two thirds of the speed without.
template <int kRows, typename Number>
inline void ask_for(const Number *row, int64_t row_stride) {
  __builtin_prefetch(row + kRows * row_stride);
}

template <typename Number, int kRows, int kTokens>
inline void float_tile(const Number *weights, int64_t row_stride, const float *x,
                       int64_t token_stride, int columns, float (&out)[kTokens][kRows]) {
  Floats sums[kTokens][kRows] = {};
  int column = 0;
  for (; column + kLanes <= columns; column += kLanes) {
    Floats row[kRows];
    for (int r = 0; r < kRows; ++r) row[r] = floats(weights + r * row_stride + column);
    for (int t = 0; t < kTokens; ++t) {
      const Floats token = floats(x + t * token_stride + column);
      for (int r = 0; r < kRows; ++r) sums[t][r] += row[r] * token;
    }
  }
  for (int t = 0; t < kTokens; ++t) sums_of<kRows>(sums[t], out[t]);
  for (; column < columns; ++column) {
    for (int t = 0; t < kTokens; ++t) {
      for (int r = 0; r < kRows; ++r) {
        out[t][r] += single(weights + r * row_stride + column) * x[t * token_stride + column];
      }
    }
  }
}

// Vectors that a group's codes fill, one of each column.
constexpr int kPieces = kGroup / kBytes;

// What is in the first `count` bytes, then zeros: behind the last row there need not be memory.
inline Bytes some_bytes(const void *from, int count) {
  Bytes bytes = {};
  std::memcpy(&bytes, from, std::min(count, kBytes));
  return bytes;
}

template <int kRows, int kTokens>
inline void int8_tile(const int8_t *weights, int64_t row_stride, const Codes &x, int token,
                      int columns, float (&out)[kTokens][kRows]) {
  const int groups = groups_of(columns), whole = columns / kGroup;
  const int8_t *codes = x.codes + token * x.stride;
  const int32_t *starts = x.starts + int64_t{token} * groups;
  const float *factors = x.factors + int64_t{token} * groups;
  Floats sums[kTokens][kRows] = {};
  const auto across = [&](int group, const auto &bytes_of) {
    Bytes numbers[kTokens][kPieces];
    Ints start[kTokens];
    Floats factor[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      for (int piece = 0; piece < kPieces; ++piece) {
        numbers[t][piece] = load<Bytes>(codes + t * x.stride + group * kGroup + piece * kBytes);
      }
      start[t] = first_lane(starts[t * groups + group]);
      factor[t] = all(factors[t * groups + group]);
    }
    for (int r = 0; r < kRows; ++r) {
      Ints parts[kTokens];
      for (int t = 0; t < kTokens; ++t) parts[t] = start[t];
      for (int piece = 0; piece < kPieces; ++piece) {
        const Bytes row = shifted(bytes_of(weights + r * row_stride + group * kGroup, piece));
        for (int t = 0; t < kTokens; ++t) parts[t] = dot(parts[t], row, numbers[t][piece]);
      }
      for (int t = 0; t < kTokens; ++t) sums[t][r] += converted(parts[t]) * factor[t];
    }
  };
  for (int group = 0; group < whole; ++group) {
    across(group, [&](const int8_t *from, int piece) {
      if (piece == 0) ask_for<kRows>(from, row_stride);
      return load<Bytes>(from + piece * kBytes);
    });
  }
  if (whole < groups) {
    across(whole, [&](const int8_t *from, int piece) {
      return some_bytes(from + piece * kBytes,
                        std::max(0, columns - whole * kGroup - piece * kBytes));
    });
  }
  for (int t = 0; t < kTokens; ++t) sums_of<kRows>(sums[t], out[t]);
}

}  // namespace
}  // namespace bigcode
