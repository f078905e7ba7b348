// Products with a matrix, as tiles of some rows by some tokens that stay in registers.
//
// Both sides are read along the columns, as they lie: nothing is packed, and a token alone and many
// go the same way. Included by the isa_*.cpp alone; see vec.h.

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

// Columns at a time, if there are many tokens: a tile's rows and tokens then fit into the L1 cache.
constexpr int kColumns = 512;

template <typename Number, int kRows, int kTokens>
inline void float_tile(const Number *weights, int64_t row_stride, const float *x,
                       int64_t token_stride, int columns, float (&out)[kTokens][kRows]) {
  Floats sums[kRows][kTokens] = {};
  int column = 0;
  for (; column + kLanes <= columns; column += kLanes) {
    Floats row[kRows];
    for (int r = 0; r < kRows; ++r) row[r] = floats(weights + r * row_stride + column);
    for (int t = 0; t < kTokens; ++t) {
      const Floats token = floats(x + t * token_stride + column);
      for (int r = 0; r < kRows; ++r) sums[r][t] += row[r] * token;
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r) out[t][r] = sum(sums[r][t]);
  }
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
  const int chunks = chunks_of(columns), groups = groups_of(columns);
  const int64_t token_stride = padded_columns(columns);
  const int8_t *codes = x.codes + token * token_stride;
  Floats sums[kRows][kTokens] = {};
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int end = std::min(columns, (chunk + 1) * kChunk);
    Ints parts[kRows][kTokens] = {};
    int column = chunk * kChunk;
    for (; column < end; column += kBytes) {
      Bytes row[kRows];
      for (int r = 0; r < kRows; ++r) {
        const int8_t *from = weights + r * row_stride + column;
        row[r] = Bytes{};
        // Behind the last row there need not be memory.
        if (column + kBytes <= columns) row[r] = load<Bytes>(from);
        else std::memcpy(&row[r], from, columns - column);
      }
      for (int t = 0; t < kTokens; ++t) {
        const Bytes numbers = load<Bytes>(codes + t * token_stride + column);
        for (int r = 0; r < kRows; ++r) parts[r][t] = dot(parts[r][t], row[r], numbers);
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      const Floats factor = all(x.factors[(token + t) * chunks + chunk]);
      for (int r = 0; r < kRows; ++r) sums[r][t] += converted(parts[r][t]) * factor;
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    float shift = 0;
    if (kShift != 0) {
      for (int g = 0; g < groups; ++g) shift += x.sums[(token + t) * groups + g];
    }
    for (int r = 0; r < kRows; ++r) out[t][r] = sum(sums[r][t]) - kShift * shift;
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
  const int groups = groups_of(columns), chunks = chunks_of(columns);
  const int64_t row_stride = groups * (kGroup / 2), token_stride = groups * kGroup;
  const int8_t *codes = x.codes + token * token_stride;
  Floats sums[kRows][kTokens] = {};
  for (int group = 0; group < groups; ++group) {
    Ints parts[kRows][kTokens] = {};
    Bytes row[kRows][kPieces];
    for (int r = 0; r < kRows; ++r) {
      unpack(weights + r * row_stride + group * (kGroup / 2), row[r]);
    }
    for (int t = 0; t < kTokens; ++t) {
      for (int piece = 0; piece < kPieces; ++piece) {
        const Bytes numbers =
            load<Bytes>(codes + t * token_stride + group * kGroup + piece * kBytes);
        for (int r = 0; r < kRows; ++r) {
          parts[r][t] = dot_small(parts[r][t], row[r][piece], numbers);
        }
      }
      const float factor = x.factors[(token + t) * chunks + group / (kChunk / kGroup)];
      for (int r = 0; r < kRows; ++r) {
        sums[r][t] += converted(parts[r][t]) * all(factor * scales[r * groups + group]);
      }
    }
  }
  // Codes are stored as what they exceed -8 by.
  float excess[kTokens][kRows];
  float_tile<float, kRows, kTokens>(scales, groups, x.sums + int64_t{token} * groups, groups,
                                    groups, excess);
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r) out[t][r] = sum(sums[r][t]) - 8 * excess[t][r];
  }
}

// Calls `tile` with rows and tokens as constants: whole tiles, then what is left of them.
template <int kRows, int kTokens, typename Tile>
inline void tiles(int rows, int tokens, const Tile &tile) {
  int token = 0;
  const auto across = [&](auto some_tokens) {
    constexpr int kSome = decltype(some_tokens)::value;
    int row = 0;
    for (; row + kRows <= rows; row += kRows) {
      tile(std::integral_constant<int, kRows>{}, some_tokens, row, token);
    }
    for (; row < rows; ++row) tile(std::integral_constant<int, 1>{}, some_tokens, row, token);
    token += kSome;
  };
  while (token + kTokens <= tokens) across(std::integral_constant<int, kTokens>{});
  if constexpr (kTokens > 3) {
    while (token + 3 <= tokens) across(std::integral_constant<int, 3>{});
  }
  while (token + 2 <= tokens) across(std::integral_constant<int, 2>{});
  while (token < tokens) across(std::integral_constant<int, 1>{});
}

template <typename Number>
void float_product(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
                   int64_t stride) {
  const auto *weights = static_cast<const Number *>(matrix.weights);
  const int64_t row_stride = matrix.columns;
  const int step = inputs.tokens > 1 ? kColumns : matrix.columns;
  for (int from = 0; from < matrix.columns; from += step) {
    const int columns = std::min(step, matrix.columns - from);
    tiles<kTileRows, kTileTokens>(
        rows, inputs.tokens, [&](auto some_rows, auto some_tokens, int row, int token) {
          constexpr int kRows = decltype(some_rows)::value;
          constexpr int kTokens = decltype(some_tokens)::value;
          float sums[kTokens][kRows];
          float_tile<Number, kRows, kTokens>(
              weights + (first + row) * row_stride + from, row_stride,
              inputs.values + token * row_stride + from, row_stride, columns, sums);
          for (int t = 0; t < kTokens; ++t) {
            float *to = out + (token + t) * stride + first + row;
            for (int r = 0; r < kRows; ++r) to[r] = from > 0 ? to[r] + sums[t][r] : sums[t][r];
          }
        });
  }
  if (matrix.format != Format::kInt8) return;
  for (int token = 0; token < inputs.tokens; ++token) {
    for (int row = first; row < first + rows; ++row) {
      out[token * stride + row] *= matrix.scales[row];
    }
  }
}

void code_product(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
                  int64_t stride) {
  const Codes &codes = *inputs.codes;
  const int columns = matrix.columns;
  tiles<kCodeRows, kCodeTokens>(
      rows, inputs.tokens, [&](auto some_rows, auto some_tokens, int row, int token) {
        constexpr int kRows = decltype(some_rows)::value;
        constexpr int kTokens = decltype(some_tokens)::value;
        float sums[kTokens][kRows];
        const int64_t at = first + row;
        if (matrix.format == Format::kInt8) {
          int8_tile<kRows, kTokens>(static_cast<const int8_t *>(matrix.weights) + at * columns,
                                    columns, codes, token, columns, sums);
        } else {
          const int64_t groups = groups_of(columns);
          int4_tile<kRows, kTokens>(
              static_cast<const uint8_t *>(matrix.weights) + at * groups * (kGroup / 2),
              matrix.scales + at * groups, codes, token, columns, sums);
        }
        for (int t = 0; t < kTokens; ++t) {
          float *to = out + (token + t) * stride + at;
          for (int r = 0; r < kRows; ++r) {
            to[r] = matrix.format == Format::kInt8 ? sums[t][r] * matrix.scales[at + r]
                                                   : sums[t][r];
          }
        }
      });
}

void product(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
             int64_t stride) {
  switch (matrix.format) {
    case Format::kFloat: return float_product<float>(matrix, inputs, first, rows, out, stride);
    case Format::kHalf: return float_product<Half>(matrix, inputs, first, rows, out, stride);
    case Format::kBrain: return float_product<Brain>(matrix, inputs, first, rows, out, stride);
    case Format::kInt8:
      if (inputs.codes == nullptr) {
        return float_product<int8_t>(matrix, inputs, first, rows, out, stride);
      }
      return code_product(matrix, inputs, first, rows, out, stride);
    case Format::kInt4: return code_product(matrix, inputs, first, rows, out, stride);
  }
}

}  // namespace
}  // namespace bigcode
