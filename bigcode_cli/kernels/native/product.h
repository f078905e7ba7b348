// Products with a matrix. Included by the isa_*.cpp alone; see vec.h.
//
// For a few tokens its rows are read where they lie: time is what it takes to read them. Of many
// panels pass by: see panel.h.

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

// So many rows at a time are multiplied by few tokens, and then finished.
constexpr int kRowsOfFew = 64;

// Calls `tile(rows, tokens, first row, first token, sums)` for all of them, and finishes what it
// gives.
template <typename Number, int kRows, int kTokens, typename Tile>
inline void few(const Matrix &matrix, int tokens, int first, int rows, const Outputs &outputs,
                const Tile &tile) {
  static_assert(kMany >= kManyCodes, "there are as many places");
  float products[kMany][kRowsOfFew];
  for (int from = first; from < first + rows; from += kRowsOfFew) {
    const int some = std::min(kRowsOfFew, first + rows - from);
    tiles<kRows, kTokens>(some, tokens, [&](auto some_rows, auto some_tokens, int row, int token) {
      float sums[decltype(some_tokens)::value][decltype(some_rows)::value];
      tile(from + row, token, sums);
      for (int t = 0; t < some_tokens; ++t) {
        for (int r = 0; r < some_rows; ++r) {
          products[token + t][row + r] = sums[t][r] * scale_of<Number>(matrix, from + row + r);
        }
      }
    });
    with_result(outputs, [&](const auto &result) {
      for (int token = 0; token < tokens; ++token) {
        float *to = outputs.out + token * outputs.stride + from;
        for (int row = 0; row < some; row += kLanes) {
          finish(result, floats(products[token] + row),
                 matrix.bias == nullptr ? nullptr : matrix.bias + from + row, to + row, some - row);
        }
      }
    });
  }
}

template <typename Number>
void float_product(const Matrix &matrix, const Inputs &inputs, int first, int rows,
                   const Outputs &outputs) {
  if (is_many(inputs)) {
    return by_panels(FloatKind<Number>{matrix, inputs}, first, rows, outputs);
  }
  const auto *weights = static_cast<const Number *>(matrix.weights);
  const int64_t row_stride = matrix.columns;
  few<Number, kTileRows, kTileTokens>(
      matrix, inputs.tokens, first, rows, outputs, [&](int row, int token, auto &sums) {
        float_tile(weights + row * row_stride, row_stride, inputs.values + token * inputs.stride,
                   inputs.stride, matrix.columns, sums);
      });
}

void int8_product(const Matrix &matrix, const Inputs &inputs, int first, int rows,
                  const Outputs &outputs) {
  if (is_many(inputs)) return by_panels(CodeKind<false>{matrix, inputs}, first, rows, outputs);
  const auto *weights = static_cast<const int8_t *>(matrix.weights);
  const int64_t row_stride = matrix.columns;
  few<int8_t, kCodeRows, kCodeTokens>(
      matrix, inputs.tokens, first, rows, outputs, [&](int row, int token, auto &sums) {
        int8_tile(weights + row * row_stride, row_stride, *inputs.codes, token, matrix.columns,
                  sums);
      });
}

void int4_product(const Matrix &matrix, const Inputs &inputs, int first, int rows,
                  const Outputs &outputs) {
  if (is_many(inputs)) return by_panels(CodeKind<true>{matrix, inputs}, first, rows, outputs);
  const auto *weights = static_cast<const uint8_t *>(matrix.weights);
  const int64_t groups = groups_of(matrix.columns);
  few<uint8_t, kCodeRows, kCodeTokens>(
      matrix, inputs.tokens, first, rows, outputs, [&](int row, int token, auto &sums) {
        int4_tile(weights + row * groups * kPairBytes, matrix.scales + row * groups, *inputs.codes,
                  token, matrix.columns, sums);
      });
}

void product(const Matrix &matrix, const Inputs &inputs, int first, int rows,
             const Outputs &outputs) {
  switch (matrix.format) {
    case Format::kFloat: return float_product<float>(matrix, inputs, first, rows, outputs);
    case Format::kHalf: return float_product<Half>(matrix, inputs, first, rows, outputs);
    case Format::kBrain: return float_product<Brain>(matrix, inputs, first, rows, outputs);
    case Format::kInt8:
      return inputs.codes == nullptr ? float_product<int8_t>(matrix, inputs, first, rows, outputs)
                                     : int8_product(matrix, inputs, first, rows, outputs);
    case Format::kInt4: return int4_product(matrix, inputs, first, rows, outputs);
  }
}

}  // namespace
}  // namespace bigcode
