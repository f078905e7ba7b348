// Many tokens' codes by panels of an int8 or int4 matrix: see panel.h. A word of a panel is four
// columns of a row.
//
// Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include "pairs.h"
#include "panel.h"

namespace bigcode {
namespace {

// What lies beyond a row's end is 0, which with no number adds nothing.
inline void lay_out_int8(const uint8_t *weights, int64_t stride, int rows, int columns,
                         int8_t *panel) {
  const auto words_of = [&](int row, int word) {
    const uint8_t *codes = weights + row * stride + 4 * word;
    const int left = columns - 4 * word;
    return reinterpret_cast<Ints>(
        shifted(left >= kBytes ? load<Bytes>(codes) : some_bytes(codes, std::max(0, left))));
  };
  lay_out(rows, padded_columns(columns) / 4, words_of, into(panel));
}

// Pairs are turned, and unpacked when they have been.
inline void lay_out_int4(const uint8_t *weights, int64_t stride, int rows, int groups,
                         int8_t *panel) {
  constexpr int kWords = kPairBytes / 4;
  const auto words_of = [&](int row, int word) {
    const uint8_t *pairs = weights + row * stride + 4 * word;
    const int left = groups * kPairBytes - 4 * word;
    return reinterpret_cast<Ints>(left >= kBytes ? load<Bytes>(pairs) : some_bytes(pairs, left));
  };
  lay_out(rows, groups * kWords, words_of, [&](int word, int row, Ints turned) {
    if (word >= groups * kWords) return;
    const Pairs pairs = reinterpret_cast<Pairs>(turned);
    const int even = word / kWords * 2 * kWords + word % kWords;
    into(panel)(even, row, reinterpret_cast<Ints>(even_codes(pairs)));
    into(panel)(even + kWords, row, reinterpret_cast<Ints>(odd_codes(pairs)));
  });
}

template <bool kIsInt4>
inline Ints dot_codes(Ints sums, Bytes codes, Bytes numbers) {
  return kIsInt4 ? dot_small(sums, codes, numbers) : dot(sums, codes, numbers);
}

template <bool kIsInt4>
struct CodeKind {
  static constexpr int kColumns = kPanelBytes, kSome = kGroup;
  struct Panel {
    alignas(64) int8_t codes[kColumns * kPanel];
    // Of int4, for each group; of int8 the first alone.
    alignas(64) float scales[kColumns / kGroup][kPanel];
  };

  const Matrix &matrix;
  const Codes &x;

  Region region(int row, int rows, int from, int columns) const {
    const int64_t stride = row_bytes();
    const auto *start = static_cast<const char *>(matrix.weights) + row * stride;
    return {start + (kIsInt4 ? from / 2 : from), stride, rows, kIsInt4 ? columns / 2 : columns};
  }
  const int8_t *numbers(int token, int from) const { return x.codes + token * x.stride + from; }
  static int bytes(int columns) { return padded_columns(columns); }

  int64_t row_bytes() const {
    return kIsInt4 ? int64_t{groups_of(matrix.columns)} * kPairBytes : matrix.columns;
  }

  void lay_out(int first, int rows, int from, int columns, Panel &panel) const {
    const auto *weights = static_cast<const uint8_t *>(matrix.weights) + first * row_bytes();
    const int groups = groups_of(columns);
    if constexpr (kIsInt4) {
      lay_out_int4(weights + from / 2, row_bytes(), rows, groups, panel.codes);
    } else {
      lay_out_int8(weights + from, row_bytes(), rows, columns, panel.codes);
    }
    const int64_t all_groups = groups_of(matrix.columns);
    for (int row = 0; row < rows; ++row) {
      const int64_t at = first + row;
      for (int group = 0; group < (kIsInt4 ? groups : 1); ++group) {
        panel.scales[group][row] =
            matrix.scales[kIsInt4 ? at * all_groups + from / kGroup + group : at];
      }
    }
  }

  // Sums of a group are whole numbers.
  template <int kTokens, typename Ask>
  void pass(const Panel &panel, const char *passing_by, int token, int from, int columns,
            const Ask &ask, Floats (&sums)[kTokens][2]) const {
    const int64_t all_groups = groups_of(matrix.columns);
    const int64_t at = token * all_groups + from / kGroup;
    for (int group = 0; group < groups_of(columns); ++group) {
      ask();
      Ints parts[kTokens][2];
      for (int t = 0; t < kTokens; ++t) {
        parts[t][0] = parts[t][1] = all(x.starts[at + t * all_groups + group]);
      }
      for (int column = group * kGroup; column < (group + 1) * kGroup; column += 4) {
        const Bytes lower = load<Bytes>(panel.codes + column * kPanel);
        const Bytes upper = load<Bytes>(panel.codes + column * kPanel + kBytes);
        for (int t = 0; t < kTokens; ++t) {
          int32_t four;
          std::memcpy(&four, passing_by + t * kApart + column, 4);
          const Bytes numbers = reinterpret_cast<Bytes>(all(four));
          parts[t][0] = dot_codes<kIsInt4>(parts[t][0], lower, numbers);
          parts[t][1] = dot_codes<kIsInt4>(parts[t][1], upper, numbers);
        }
      }
      for (int t = 0; t < kTokens; ++t) {
        const Floats factor = all(x.factors[at + t * all_groups + group]);
        for (int half = 0; half < 2; ++half) {
          const Floats by =
              kIsInt4 ? factor * floats(panel.scales[group] + half * kLanes) : factor;
          sums[t][half] += converted(parts[t][half]) * by;
        }
      }
    }
    if constexpr (!kIsInt4) {
      for (int t = 0; t < kTokens; ++t) {
        for (int half = 0; half < 2; ++half) {
          sums[t][half] *= floats(panel.scales[0] + half * kLanes);
        }
      }
    }
  }
};

}  // namespace
}  // namespace bigcode
