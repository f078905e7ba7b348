// Some rows of a matrix by some tokens: sums that stay in registers.
//
// Both sides are read along the columns, as they lie. Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include <algorithm>

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

template <int kRows, int kTokens>
inline void int8_tile(const int8_t *weights, int64_t row_stride, const Codes &x, int token,
                      int columns, float (&out)[kTokens][kRows]) {
  const int groups = groups_of(columns);
  const int64_t token_stride = x.stride;
  const int8_t *codes = x.codes + token * token_stride;
  Floats sums[kTokens][kRows] = {};
  for (int group = 0; group < groups; ++group) {
    const int end = std::min(columns, (group + 1) * kGroup);
    Ints parts[kTokens][kRows] = {};
    const auto across = [&](const Bytes (&row)[kRows], int column) {
      for (int t = 0; t < kTokens; ++t) {
        const Bytes numbers = load<Bytes>(codes + t * token_stride + column);
        for (int r = 0; r < kRows; ++r) parts[t][r] = dot(parts[t][r], row[r], numbers);
      }
    };
    int column = group * kGroup;
    for (; column + kBytes <= end; column += kBytes) {
      Bytes row[kRows];
      for (int r = 0; r < kRows; ++r) row[r] = shifted(load<Bytes>(weights + r * row_stride + column));
      across(row, column);
    }
    if (column < end) {
      // Behind the last row there need not be memory.
      Bytes row[kRows] = {};
      for (int r = 0; r < kRows; ++r) {
        std::memcpy(&row[r], weights + r * row_stride + column, end - column);
        row[r] = shifted(row[r]);
      }
      across(row, column);
    }
    for (int t = 0; t < kTokens; ++t) {
      const Floats factor = all(x.factors[int64_t{token + t} * groups + group]);
      for (int r = 0; r < kRows; ++r) sums[t][r] += converted(parts[t][r]) * factor;
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    sums_of<kRows>(sums[t], out[t]);
    if (kShift == 0) continue;
    float shift = 0;
    for (int g = 0; g < groups; ++g) shift += x.sums[(token + t) * groups + g];
    for (int r = 0; r < kRows; ++r) out[t][r] -= kShift * shift;
  }
}

constexpr int kPieces = kGroup / kBytes;

// A group's codes, 0 … 15: those of its even columns, then those of its odd ones.
inline void unpack(const uint8_t *pairs, Bytes (&codes)[kPieces]) {
#if defined(__AVX512F__)
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(pairs));
  const __m512i halves = _mm512_inserti64x4(_mm512_castsi256_si512(both),
                                            _mm256_srli_epi16(both, 4), 1);
  codes[0] = reinterpret_cast<Bytes>(_mm512_and_si512(halves, _mm512_set1_epi8(15)));
#else
  typedef uint8_t Pairs __attribute__((vector_size(kBytes)));
  for (int piece = 0; piece < kPieces / 2; ++piece) {
    const Pairs both = load<Pairs>(pairs + piece * kBytes);
    codes[piece] = reinterpret_cast<Bytes>(both & 15);
    codes[piece + kPieces / 2] = reinterpret_cast<Bytes>(both >> 4);
  }
#endif
}

template <int kRows, int kTokens>
inline void int4_tile(const uint8_t *weights, const float *scales, const Codes &x, int token,
                      int columns, float (&out)[kTokens][kRows]) {
  const int groups = groups_of(columns);
  const int64_t row_stride = groups * (kGroup / 2), token_stride = x.stride;
  const int8_t *codes = x.codes + token * token_stride;
  const float *factors = x.factors + int64_t{token} * groups;
  Floats sums[kTokens][kRows] = {};
  for (int group = 0; group < groups; ++group) {
    Bytes row[kRows][kPieces];
    for (int r = 0; r < kRows; ++r) {
      unpack(weights + r * row_stride + group * (kGroup / 2), row[r]);
    }
    for (int t = 0; t < kTokens; ++t) {
      Ints products[kRows] = {};
      for (int piece = 0; piece < kPieces; ++piece) {
        const Bytes numbers =
            load<Bytes>(codes + t * token_stride + group * kGroup + piece * kBytes);
        for (int r = 0; r < kRows; ++r) {
          products[r] = dot_small(products[r], row[r][piece], numbers);
        }
      }
      for (int r = 0; r < kRows; ++r) {
        const float factor = factors[t * groups + group] * scales[r * groups + group];
        sums[t][r] += converted(products[r]) * all(factor);
      }
    }
  }
  // Codes are stored as what they exceed -8 by.
  float excess[kTokens][kRows];
  float_tile<float, kRows, kTokens>(scales, groups, x.sums + int64_t{token} * groups, groups,
                                    groups, excess);
  for (int t = 0; t < kTokens; ++t) {
    sums_of<kRows>(sums[t], out[t]);
    for (int r = 0; r < kRows; ++r) out[t][r] -= 8 * excess[t][r];
  }
}

}  // namespace
}  // namespace bigcode
