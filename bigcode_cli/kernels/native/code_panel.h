// Many tokens' codes by an int8 or int4 matrix: see panel.h. A word is four columns.
//
// Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include "pairs.h"
#include "panel.h"

namespace bigcode {
namespace {

// Crosswise: a panel's codes, then for each group what sums start from and the factors.
constexpr int64_t code_panel_bytes(int columns) {
  return int64_t{kPanel} * (padded_columns(columns) + 8 * groups_of(columns));
}

inline void lay_codes_crosswise(const Inputs &inputs, int panel) {
  const Codes &x = *inputs.codes;
  const int first = panel * kPanel, tokens = std::min(kPanel, inputs.tokens - first);
  const int columns = padded_columns(x.columns), groups = groups_of(x.columns);
  char *to = static_cast<char *>(inputs.crosswise) + panel * code_panel_bytes(x.columns);
  lay_crosswise(tokens, columns / 4, [&](int token, int word) {
    return load<Ints>(x.codes + (first + token) * x.stride + 4 * word);
  }, to);
  auto *starts = reinterpret_cast<int32_t *>(to + int64_t{kPanel} * columns);
  auto *factors = reinterpret_cast<float *>(starts + int64_t{kPanel} * groups);
  for (int group = 0; group < groups; ++group) {
    for (int token = 0; token < kPanel; ++token) {
      const int64_t at = int64_t{first + token} * groups + group;
      starts[group * kPanel + token] = token < tokens ? x.starts[at] : 0;
      factors[group * kPanel + token] = token < tokens ? x.factors[at] : 0;
    }
  }
}

template <bool kIsInt4>
struct CodeKind {
  static constexpr int kColumns = kStripBytes;

  const Matrix &matrix;
  const Inputs &inputs;

  static int times(int columns) { return groups_of(columns); }

  const uint8_t *at(int64_t row, int column) const {
    const auto *weights = static_cast<const uint8_t *>(matrix.weights);
    return kIsInt4 ? weights + row * groups_of(matrix.columns) * kPairBytes + column / 2
                   : weights + row * matrix.columns + column;
  }

  Region region(int row, int rows, int from, int columns) const {
    return {reinterpret_cast<const char *>(at(row, from)), at(row + 1, from) - at(row, from), rows,
            kIsInt4 ? columns / 2 : columns};
  }

  // What lies beyond a row's end meets zeros.
  void widen(int row, int from, int columns, char *strip) const {
    const uint8_t *codes = at(row, from);
    if constexpr (kIsInt4) {
      for (int group = 0; group < groups_of(columns); ++group) {
        unpack(codes + group * kPairBytes, strip + group * kGroup);
      }
    } else {
      for (int column = 0; column < columns; column += kBytes) {
        const int left = columns - column;
        const Bytes some =
            left >= kBytes ? load<Bytes>(codes + column) : some_bytes(codes + column, left);
        const Bytes moved = shifted(some);
        std::memcpy(strip + column, &moved, sizeof moved);
      }
    }
  }

  // Sums of a group are whole numbers.
  template <int kRows, int kVectors>
  [[gnu::noinline]] void pass(const char *strips, int row, int token, int from, int columns,
                              Ahead &ahead, float *to) const {
    const int groups = groups_of(matrix.columns), first = from / kGroup;
    const auto *codes = static_cast<const char *>(inputs.crosswise) +
                        int64_t{token} / kPanel * code_panel_bytes(matrix.columns);
    const char *behind = codes + int64_t{kPanel} * padded_columns(matrix.columns);
    const auto *starts = reinterpret_cast<const int32_t *>(behind) + first * kPanel;
    const auto *factors = reinterpret_cast<const float *>(starts + int64_t{kPanel} * groups);
    codes += int64_t{from} * kPanel;
    const float *scales = matrix.scales + (kIsInt4 ? int64_t{row} * groups + first : row);
    Floats sums[kRows][kVectors] = {};
    for (int group = 0; group < groups_of(columns); ++group) {
      ahead.ask();
      Ints parts[kRows][kVectors];
      for (int v = 0; v < kVectors; ++v) {
        const Ints start = load<Ints>(starts + group * kPanel + v * kLanes);
        for (int r = 0; r < kRows; ++r) parts[r][v] = start;
      }
      for (int column = group * kGroup; column < (group + 1) * kGroup; column += 4) {
        Bytes numbers[kVectors];
        for (int v = 0; v < kVectors; ++v) {
          numbers[v] = load<Bytes>(codes + column * kPanel + v * kBytes);
        }
        for (int r = 0; r < kRows; ++r) {
          int32_t four;
          std::memcpy(&four, strips + r * kApart + column, 4);
          const Bytes weights = reinterpret_cast<Bytes>(all(four));
          for (int v = 0; v < kVectors; ++v) {
            parts[r][v] = kIsInt4 ? dot_small(parts[r][v], weights, numbers[v])
                                  : dot(parts[r][v], weights, numbers[v]);
          }
        }
      }
      for (int v = 0; v < kVectors; ++v) {
        const Floats factor = floats(factors + group * kPanel + v * kLanes);
        for (int r = 0; r < kRows; ++r) {
          const Floats by = kIsInt4 ? factor * scales[int64_t{r} * groups + group] : factor;
          sums[r][v] += converted(parts[r][v]) * by;
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        float *total = to + r * kSumsApart + v * kLanes;
        const Floats sum = kIsInt4 ? sums[r][v] : sums[r][v] * scales[r];
        store(total, from > 0 ? floats(total) + sum : sum);
      }
    }
  }
};

}  // namespace
}  // namespace bigcode
