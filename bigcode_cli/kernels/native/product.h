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

template <typename Number, int kRows, int kTokens>
inline void put(const float (&sums)[kTokens][kRows], const Matrix &matrix, int row, float *out,
                int64_t stride) {
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r) {
      out[t * stride + row + r] = sums[t][r] * scale_of<Number>(matrix, row + r);
    }
  }
}

template <typename Number>
void few_floats(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
                int64_t stride) {
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
        put<Number, kRows, kTokens>(sums, matrix, first + row, out + token * stride, stride);
      });
}

template <bool kIsInt4>
void few_codes(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
               int64_t stride) {
  const int64_t columns = matrix.columns, groups = groups_of(matrix.columns);
  const Codes &codes = *inputs.codes;
  tiles<kCodeRows, kCodeTokens>(
      rows, inputs.tokens, [&](auto some_rows, auto some_tokens, int row, int token) {
        constexpr int kRows = decltype(some_rows)::value;
        constexpr int kTokens = decltype(some_tokens)::value;
        float sums[kTokens][kRows];
        const int64_t at = first + row;
        float *to = out + token * stride;
        if constexpr (kIsInt4) {
          int4_tile<kRows, kTokens>(
              static_cast<const uint8_t *>(matrix.weights) + at * groups * kPairBytes,
              matrix.scales + at * groups, codes, token, matrix.columns, sums);
          put<uint8_t, kRows, kTokens>(sums, matrix, first + row, to, stride);
        } else {
          int8_tile<kRows, kTokens>(static_cast<const int8_t *>(matrix.weights) + at * columns,
                                    columns, codes, token, matrix.columns, sums);
          put<int8_t, kRows, kTokens>(sums, matrix, first + row, to, stride);
        }
      });
}

template <typename Number>
void float_product(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
                   int64_t stride) {
  if (!is_many(inputs)) return few_floats<Number>(matrix, inputs, first, rows, out, stride);
  by_panels(FloatKind<Number>{matrix, inputs}, matrix.columns, inputs.tokens, first, rows, out,
            stride);
}

template <bool kIsInt4>
void code_product(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
                  int64_t stride) {
  if (!is_many(inputs)) return few_codes<kIsInt4>(matrix, inputs, first, rows, out, stride);
  by_panels(CodeKind<kIsInt4>{matrix, inputs}, matrix.columns, inputs.tokens, first, rows, out,
            stride);
}

void product(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
             int64_t stride) {
  switch (matrix.format) {
    case Format::kFloat: return float_product<float>(matrix, inputs, first, rows, out, stride);
    case Format::kHalf: return float_product<Half>(matrix, inputs, first, rows, out, stride);
    case Format::kBrain: return float_product<Brain>(matrix, inputs, first, rows, out, stride);
    case Format::kInt8:
      return inputs.codes == nullptr
                 ? float_product<int8_t>(matrix, inputs, first, rows, out, stride)
                 : code_product<false>(matrix, inputs, first, rows, out, stride);
    case Format::kInt4: return code_product<true>(matrix, inputs, first, rows, out, stride);
  }
}

}  // namespace
}  // namespace bigcode
