// Many tokens by panels of a matrix (Goto and van de Geijn 2008): some columns of as many rows as two
// vectors have lanes, widened or unpacked and turned so that a vector holds one column of its rows.
// A token's numbers are then the same for all lanes, and sums are where they belong when they are done.
//
// Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include <type_traits>

#include "tiles.h"

namespace bigcode {
namespace {

constexpr int kPanel = 2 * kLanes;
// Of columns that pass by at a time: the panel stays in the L2 cache, some tokens in the L1 cache.
constexpr int kPanelColumns = 512, kPanelCodes = 2048;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kPassing = 12;
#else
constexpr int kPassing = 5;
#endif

// Rows become columns, of as many vectors as they have lanes.
inline void turn(Ints (&x)[kLanes]) {
  for (int width = 1; width < kLanes; width *= 2) {
    Ints lower, upper;
    for (int lane = 0; lane < kLanes; ++lane) {
      lower[lane] = (lane & width) == 0 ? lane : lane - width + kLanes;
      upper[lane] = (lane & width) == 0 ? lane + width : lane + kLanes;
    }
    for (int i = 0; i < kLanes; ++i) {
      if ((i & width) != 0) continue;
#if defined(__clang__)
      const Ints a = x[i], b = x[i + width];
      for (int lane = 0; lane < kLanes; ++lane) {
        x[i][lane] = lower[lane] < kLanes ? a[lower[lane]] : b[lower[lane] - kLanes];
        x[i + width][lane] = upper[lane] < kLanes ? a[upper[lane]] : b[upper[lane] - kLanes];
      }
#else
      const Ints a = __builtin_shuffle(x[i], x[i + width], lower);
      x[i + width] = __builtin_shuffle(x[i], x[i + width], upper);
      x[i] = a;
#endif
    }
  }
}

// Calls `pass(first token, how many)` with a constant number of tokens each.
template <typename Pass>
inline void passing(int tokens, const Pass &pass) {
  int token = 0;
  for (; token + kPassing <= tokens; token += kPassing) {
    pass(std::integral_constant<int, kPassing>{}, token);
  }
  for (; token + 4 <= tokens; token += 4) pass(std::integral_constant<int, 4>{}, token);
  for (; token < tokens; ++token) pass(std::integral_constant<int, 1>{}, token);
}

// Sums go over what is there, or are added to it.
inline void put(Floats sums, bool adds, float *to, int count) {
  if (count >= kLanes) return store(to, adds ? floats(to) + sums : sums);
  for (int lane = 0; lane < count; ++lane) to[lane] = adds ? to[lane] + sums[lane] : sums[lane];
}

// `columns` numbers of each row from `from` on, as panel[column][row].
template <typename Number>
inline void lay_out(const Matrix &matrix, int first, int rows, int from, int columns,
                    float *panel) {
  const auto *weights = static_cast<const Number *>(matrix.weights) + from;
  const int64_t stride = matrix.columns;
  for (int half = 0; half < kPanel; half += kLanes) {
    for (int column = 0; column < columns; column += kLanes) {
      Ints block[kLanes] = {};
      for (int lane = 0; lane < kLanes && half + lane < rows; ++lane) {
        const Number *numbers = weights + (first + half + lane) * stride + column;
        Floats some = {};
        if (column + kLanes <= columns) {
          some = floats(numbers);
        } else {
          for (int i = 0; column + i < columns; ++i) some[i] = single(numbers + i);
        }
        block[lane] = reinterpret_cast<Ints>(some);
      }
      turn(block);
      for (int i = 0; i < kLanes && column + i < columns; ++i) {
        std::memcpy(panel + (column + i) * kPanel + half, &block[i], sizeof block[i]);
      }
    }
  }
}

template <typename Number>
void many_floats(const Matrix &matrix, const Inputs &inputs, int first, int rows, float *out,
                 int64_t stride) {
  alignas(64) float panel[kPanel * kPanelColumns];
  for (int from = 0; from < matrix.columns; from += kPanelColumns) {
    const int columns = std::min(kPanelColumns, matrix.columns - from);
    for (int row = first; row < first + rows; row += kPanel) {
      const int some = std::min(kPanel, first + rows - row);
      lay_out<Number>(matrix, row, some, from, columns, panel);
      passing(inputs.tokens, [&](auto tokens, int token) {
        constexpr int kTokens = decltype(tokens)::value;
        const float *x = inputs.values + token * inputs.stride + from;
        Floats sums[kTokens][2] = {};
        for (int column = 0; column < columns; ++column) {
          const Floats lower = floats(panel + column * kPanel);
          const Floats upper = floats(panel + column * kPanel + kLanes);
          for (int t = 0; t < kTokens; ++t) {
            const Floats number = all(x[t * inputs.stride + column]);
            sums[t][0] += lower * number;
            sums[t][1] += upper * number;
          }
        }
        for (int t = 0; t < kTokens; ++t) {
          float *to = out + (token + t) * stride + row;
          put(sums[t][0], from > 0, to, some);
          put(sums[t][1], from > 0, to + kLanes, some - kLanes);
        }
      });
    }
  }
}

// A row's codes from a column on, kBytes of them: what of them lies beyond its end is 0.
inline Ints codes_of(const Matrix &matrix, int row, int column) {
  Bytes codes = {};
  if (matrix.format == Format::kInt8) {
    const auto *from = static_cast<const int8_t *>(matrix.weights) +
                       int64_t{row} * matrix.columns + column;
    // Behind the last row there need not be memory.
    if (column + kBytes <= matrix.columns) codes = load<Bytes>(from);
    else if (column < matrix.columns) std::memcpy(&codes, from, matrix.columns - column);
    codes = shifted(codes);
  } else {
    Bytes pieces[kPieces];
    unpack(static_cast<const uint8_t *>(matrix.weights) +
               (int64_t{row} * groups_of(matrix.columns) + column / kGroup) * (kGroup / 2),
           pieces);
    codes = pieces[column % kGroup / kBytes];
  }
  return reinterpret_cast<Ints>(codes);
}

void many_codes(const Matrix &matrix, const Codes &x, int tokens, int first, int rows, float *out,
                int64_t stride) {
  const bool is_int4 = matrix.format == Format::kInt4;
  const int groups = groups_of(matrix.columns);
  alignas(64) int8_t panel[kPanel * kPanelCodes];
  for (int from = 0; from < matrix.columns; from += kPanelCodes) {
    const int columns = std::min(kPanelCodes, padded_columns(matrix.columns) - from);
    for (int row = first; row < first + rows; row += kPanel) {
      const int some = std::min(kPanel, first + rows - row);
      for (int half = 0; half < kPanel; half += kLanes) {
        for (int column = 0; column < columns; column += kBytes) {
          Ints block[kLanes] = {};
          for (int lane = 0; lane < kLanes && half + lane < some; ++lane) {
            block[lane] = codes_of(matrix, row + half + lane, from + column);
          }
          turn(block);
          for (int i = 0; i < kLanes; ++i) {
            std::memcpy(panel + (column + 4 * i) * kPanel + 4 * half, &block[i], sizeof block[i]);
          }
        }
      }
      for (int start = 0; start < columns; start += kGroup) {
        const int end = start + kGroup, group = (from + start) / kGroup;
        alignas(64) float scales[kPanel] = {};
        for (int r = 0; r < some; ++r) {
          scales[r] = is_int4 ? matrix.scales[int64_t{row + r} * groups + group]
                              : matrix.scales[row + r];
        }
        passing(tokens, [&](auto tokens_, int token) {
          constexpr int kTokens = decltype(tokens_)::value;
          const int8_t *codes = x.codes + token * x.stride + from;
          Ints sums[kTokens][2] = {};
          for (int column = start; column < end; column += 4) {
            const Bytes lower = load<Bytes>(panel + column * kPanel);
            const Bytes upper = load<Bytes>(panel + column * kPanel + kBytes);
            for (int t = 0; t < kTokens; ++t) {
              int32_t four;
              std::memcpy(&four, codes + t * x.stride + column, 4);
              const Bytes numbers = reinterpret_cast<Bytes>(all(four));
              sums[t][0] = dot(sums[t][0], lower, numbers);
              sums[t][1] = dot(sums[t][1], upper, numbers);
            }
          }
          for (int t = 0; t < kTokens; ++t) {
            float *to = out + (token + t) * stride + row;
            const int64_t at = int64_t{token + t} * groups + group;
            const float factor = x.factors[at];
            // What the stored codes exceed theirs by: kShift of int8, 8 of int4.
            const float excess = (is_int4 ? 8 : kShift) * x.sums[at];
            const bool adds = from + start > 0;
            put((converted(sums[t][0]) * factor - excess) * floats(scales), adds, to, some);
            put((converted(sums[t][1]) * factor - excess) * floats(scales + kLanes), adds,
                to + kLanes, some - kLanes);
          }
        });
      }
    }
  }
}

}  // namespace
}  // namespace bigcode
