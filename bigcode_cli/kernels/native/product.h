// Products with a matrix. Included by the isa_*.cpp alone; see vec.h.
//
// For a few tokens its rows are read where they lie: time is what it takes to read them. Many pass by
// panels of some rows: see panel.h.

#pragma once

#include <type_traits>

#include "code_panel.h"
#include "pairs.h"
#include "panel.h"
#include "tiles.h"

namespace bigcode {
namespace {

// From so many tokens on it pays to lay them crosswise.
constexpr int kMany = 28, kManyCodes = 12;

bool is_many(const Inputs &inputs) {
  return inputs.tokens >= (inputs.codes == nullptr ? kMany : kManyCodes);
}

void lay_crosswise(const Inputs &inputs, int columns, int panel) {
  if (inputs.codes == nullptr) return lay_floats_crosswise(inputs, columns, panel);
  lay_codes_crosswise(inputs, panel);
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

template <int kRows, int kTokens>
inline void put(const float (&sums)[kTokens][kRows], float *out, int64_t stride) {
  for (int t = 0; t < kTokens; ++t) std::memcpy(out + t * stride, sums[t], sizeof sums[t]);
}

template <typename Number>
void float_product(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
                   int64_t stride) {
  if (is_many(inputs)) {
    return by_panels(FloatKind<Number>{matrix, inputs}, matrix.columns, inputs.tokens, first, rows, out,
                     stride);
  }
  const auto *weights = static_cast<const Number *>(matrix.weights);
  const int64_t row_stride = matrix.columns;
  tiles<kTileRows, kTileTokens>(
      rows, inputs.tokens, [&](auto some_rows, auto some_tokens, int row, int token) {
        constexpr int kRows = decltype(some_rows)::value;
        constexpr int kTokens = decltype(some_tokens)::value;
        float sums[kTokens][kRows];
        float_tile<Number, kRows, kTokens>(
            weights + (first + row) * row_stride, row_stride,
            inputs.values + token * inputs.stride, inputs.stride, matrix.columns, sums);
        put<kRows, kTokens>(sums, out + token * stride + first + row, stride);
      });
}

void few_codes(const Matrix &matrix, const Codes &codes, int tokens, int first, int rows,
               float *out, int64_t stride) {
  const int columns = matrix.columns;
  const int64_t groups = groups_of(columns);
  tiles<kCodeRows, kCodeTokens>(
      rows, tokens, [&](auto some_rows, auto some_tokens, int row, int token) {
        constexpr int kRows = decltype(some_rows)::value;
        constexpr int kTokens = decltype(some_tokens)::value;
        float sums[kTokens][kRows];
        const int64_t at = first + row;
        if (matrix.format == Format::kInt8) {
          int8_tile<kRows, kTokens>(static_cast<const int8_t *>(matrix.weights) + at * columns,
                                    columns, codes, token, columns, sums);
        } else {
          int4_tile<kRows, kTokens>(
              static_cast<const uint8_t *>(matrix.weights) + at * groups * kPairBytes,
              matrix.scales + at * groups, codes, token, columns, sums);
        }
        put<kRows, kTokens>(sums, out + token * stride + at, stride);
      });
}

void product(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
             int64_t stride) {
  const bool quantises = inputs.codes != nullptr;
  switch (matrix.format) {
    case Format::kFloat: return float_product<float>(matrix, inputs, first, rows, out, stride);
    case Format::kHalf: return float_product<Half>(matrix, inputs, first, rows, out, stride);
    case Format::kBrain: return float_product<Brain>(matrix, inputs, first, rows, out, stride);
    case Format::kInt8:
    case Format::kInt4: break;
  }
  if (quantises && is_many(inputs)) {
    const auto by = [&](const auto &kind) {
      by_panels(kind, matrix.columns, inputs.tokens, first, rows, out, stride);
    };
    return matrix.format == Format::kInt4 ? by(CodeKind<true>{matrix, inputs})
                                          : by(CodeKind<false>{matrix, inputs});
  }
  if (quantises) {
    few_codes(matrix, *inputs.codes, inputs.tokens, first, rows, out, stride);
  } else {
    float_product<int8_t>(matrix, inputs, first, rows, out, stride);
  }
  if (matrix.format == Format::kInt4) return;
  for (int token = 0; token < inputs.tokens; ++token) {
    for (int row = first; row < first + rows; ++row) {
      out[token * stride + row] *= matrix.scales[row];
    }
  }
}

}  // namespace
}  // namespace bigcode
