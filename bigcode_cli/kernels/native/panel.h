// Many tokens by panels of a matrix (Goto and van de Geijn 2008): some columns of as many rows as two
// vectors have lanes, widened or unpacked and turned so that a vector holds one column of its rows.
// A token's numbers are then the same for all lanes, and sums are where they belong when they are done.
//
// Some panels are laid out at a time, for the L2 cache to hold. By them go some tokens at a time, which
// the L1 cache holds: copied to places that are a constant apart, for there are too few registers for
// their addresses. Meanwhile the rows that come next are asked for.
//
// Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include <type_traits>
#include <utility>

#include "tiles.h"

namespace bigcode {
namespace {

constexpr int kPanel = 2 * kLanes;
constexpr int kPanels = 4;
// Bytes of a panel's row and of a token that are there at once.
constexpr int kPanelBytes = kStrip * int{sizeof(float)};
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kPassing = kStripQueries;
#else
constexpr int kPassing = 5;
#endif
constexpr int kApart = kStripApart * int{sizeof(float)};

// One of log2(kLanes) exchanges between vectors that are kWidth apart.
template <int kWidth, int... kLane>
inline void exchange(Ints (&x)[kLanes], std::integer_sequence<int, kLane...>) {
  for (int i = 0; i < kLanes; ++i) {
    if ((i & kWidth) != 0) continue;
    const Ints a = x[i], b = x[i + kWidth];
#if defined(__clang__)
    x[i] = __builtin_shufflevector(a, b, (kLane & kWidth ? kLane - kWidth + kLanes : kLane)...);
    x[i + kWidth] =
        __builtin_shufflevector(a, b, (kLane & kWidth ? kLane + kLanes : kLane + kWidth)...);
#else
    x[i] = __builtin_shuffle(a, b, Ints{(kLane & kWidth ? kLane - kWidth + kLanes : kLane)...});
    x[i + kWidth] =
        __builtin_shuffle(a, b, Ints{(kLane & kWidth ? kLane + kLanes : kLane + kWidth)...});
#endif
  }
}

// Rows become columns, of as many vectors as they have lanes.
template <int kWidth = 1>
inline void turn(Ints (&x)[kLanes]) {
  exchange<kWidth>(x, std::make_integer_sequence<int, kLanes>{});
  if constexpr (2 * kWidth < kLanes) turn<2 * kWidth>(x);
}

// Turns `words` 4-byte words of some rows, a vector of them at a time: `words_of(row, word)` is asked for
// them, and `put(word, first row, vector)` is told of what rows have at a word.
template <typename WordsOf, typename Put>
inline void lay_out(int rows, int words, const WordsOf &words_of, const Put &put) {
  for (int first = 0; first < kPanel; first += kLanes) {
    for (int word = 0; word < words; word += kLanes) {
      Ints block[kLanes] = {};
      for (int lane = 0; lane < kLanes && first + lane < rows; ++lane) {
        block[lane] = words_of(first + lane, word);
      }
      turn(block);
      for (int i = 0; i < kLanes; ++i) put(word + i, first, block[i]);
    }
  }
}

// Puts words where a panel has them.
inline auto into(void *panel) {
  return [to = static_cast<char *>(panel)](int word, int row, Ints numbers) {
    std::memcpy(to + 4 * (word * kPanel + row), &numbers, sizeof numbers);
  };
}

// Calls `pass(first token, how many)` with a constant number of tokens, nearly the same for all.
template <int kSize = kPassing, typename Pass>
inline void with_constant(int size, const Pass &pass) {
  if (size == kSize) return pass(std::integral_constant<int, kSize>{});
  if constexpr (kSize > 1) with_constant<kSize - 1>(size, pass);
}

template <typename Pass>
inline void passing(int tokens, const Pass &pass) {
  const int blocks = (tokens + kPassing - 1) / kPassing;
  for (int block = 0; block < blocks; ++block) {
    const int token = tokens * block / blocks;
    with_constant(tokens * (block + 1) / blocks - token, [&](auto some) { pass(token, some); });
  }
}

// Adds products of some numbers of each token, kStripApart apart, with as many rows of some vectors:
// `rows[v]` is where a vector has its first, the next ones are `stride` further each.
template <int kTokens, int kVectors>
inline void add_products(const float *const (&rows)[kVectors], int64_t stride, const float *x,
                         int count, Floats (&sums)[kTokens][kVectors]) {
  for (int i = 0; i < count; ++i) {
    Floats row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = floats(rows[v] + i * stride);
    for (int t = 0; t < kTokens; ++t) {
      const Floats number = all(x[t * kStripApart + i]);
      for (int v = 0; v < kVectors; ++v) sums[t][v] += row[v] * number;
    }
  }
}

// Sums go over what is there, or are added to it.
inline void put(Floats sums, bool adds, float *to, int count) {
  if (count >= kLanes) return store(to, adds ? floats(to) + sums : sums);
  for (int lane = 0; lane < count; ++lane) to[lane] = adds ? to[lane] + sums[lane] : sums[lane];
}

// Some bytes of some rows of a matrix.
struct Region {
  const char *start;
  int64_t stride;
  int rows, bytes;
};

// Rows that come next, asked for a little at a time amid other work: asked for at once they would hold
// up what that reads.
class Ahead {
 public:
  Ahead(const Region &region, int times)
      : region_(region), each_((region.rows * ((region.bytes + 63) / 64) + times - 1) / times) {}

  void ask() {
    for (int line = 0; line < each_ && region_.rows > 0; ++line) {
      __builtin_prefetch(region_.start + offset_, 0, 2);
      offset_ += 64;
      if (offset_ < region_.bytes) continue;
      offset_ = 0;
      region_.start += region_.stride;
      --region_.rows;
    }
  }

 private:
  Region region_;
  int each_, offset_ = 0;
};

// Rows of a matrix by all tokens. What a kind of numbers has to tell:
//
// - kColumns, so many of which are laid out at once, and the type Panel;
// - kSome: after so many columns of a pass there is time to ask for what comes next;
// - region(row, rows, from, columns): where they are in the matrix;
// - lay_out(row, rows, from, columns, panel);
// - numbers(token, from) and bytes(columns): what is copied of a token;
// - pass<kTokens>(panel, numbers, token, from, columns, ask, sums): adds to the sums of kPanel rows.
template <typename Kind>
void by_panels(const Kind &kind, int columns, int tokens, int first, int rows, float *out,
               int64_t stride) {
  alignas(64) typename Kind::Panel panels[kPanels];
  alignas(64) char passing_by[kPassing * kApart];
  constexpr int kRows = kPanels * kPanel;
  const int end = first + rows;
  for (int row = first; row < end; row += kRows) {
    const int some_rows = std::min(kRows, end - row);
    for (int from = 0; from < columns; from += Kind::kColumns) {
      const int some_columns = std::min(Kind::kColumns, columns - from);
      for (int panel = 0; panel < some_rows; panel += kPanel) {
        kind.lay_out(row + panel, std::min(kPanel, some_rows - panel), from, some_columns,
                     panels[panel / kPanel]);
      }
      const int next = from + Kind::kColumns;
      const Region region =
          next < columns ? kind.region(row, some_rows, next, std::min(Kind::kColumns, columns - next))
                         : kind.region(row + kRows, std::clamp(end - row - kRows, 0, kRows), 0,
                                       std::min(Kind::kColumns, columns));
      const int times = (some_rows + kPanel - 1) / kPanel *
                        ((some_columns + Kind::kSome - 1) / Kind::kSome);
      Ahead rows_ahead(region, (tokens + kPassing - 1) / kPassing * times);
      passing(tokens, [&](int token, auto constant) {
        constexpr int kTokens = decltype(constant)::value;
        Ahead tokens_ahead({reinterpret_cast<const char *>(kind.numbers(token + kTokens, from)),
                            reinterpret_cast<const char *>(kind.numbers(token + kTokens + 1, from)) -
                                reinterpret_cast<const char *>(kind.numbers(token + kTokens, from)),
                            std::min(kTokens, tokens - token - kTokens), kind.bytes(some_columns)},
                           times);
        const auto ask = [&] {
          rows_ahead.ask();
          tokens_ahead.ask();
        };
        for (int t = 0; t < kTokens; ++t) {
          std::memcpy(passing_by + t * kApart, kind.numbers(token + t, from),
                      kind.bytes(some_columns));
        }
        for (int panel = 0; panel < some_rows; panel += kPanel) {
          // Where sums go is far apart, and not in the L1 cache.
          for (int t = 0; t < kTokens; ++t) {
            const float *to = out + (token + t) * stride + row + panel;
            __builtin_prefetch(to, 1);
            __builtin_prefetch(to + kLanes, 1);
          }
          Floats sums[kTokens][2] = {};
          kind.template pass<kTokens>(panels[panel / kPanel], passing_by, token, from, some_columns,
                                      ask, sums);
          for (int t = 0; t < kTokens; ++t) {
            float *to = out + (token + t) * stride + row + panel;
            put(sums[t][0], from > 0, to, some_rows - panel);
            put(sums[t][1], from > 0, to + kLanes, some_rows - panel - kLanes);
          }
        }
      });
    }
  }
}

template <typename Number>
struct FloatKind {
  static constexpr int kColumns = kPanelBytes / int{sizeof(float)}, kSome = 32;
  using Panel = float[kColumns * kPanel];

  const Matrix &matrix;
  const Inputs &inputs;

  const Number *at(int row, int column) const {
    return static_cast<const Number *>(matrix.weights) + int64_t{row} * matrix.columns + column;
  }
  Region region(int row, int rows, int from, int columns) const {
    return {reinterpret_cast<const char *>(at(row, from)),
            int64_t{matrix.columns} * int{sizeof(Number)}, rows, columns * int{sizeof(Number)}};
  }
  const float *numbers(int token, int from) const {
    return inputs.values + token * inputs.stride + from;
  }
  static int bytes(int columns) { return columns * int{sizeof(float)}; }

  void lay_out(int first, int rows, int from, int columns, Panel &panel) const {
    const auto words_of = [&](int row, int column) {
      const Number *numbers = at(first + row, from + column);
      Floats words = {};
      if (column + kLanes <= columns) {
        words = floats(numbers);
      } else {
        for (int i = 0; column + i < columns; ++i) words[i] = single(numbers + i);
      }
      return reinterpret_cast<Ints>(words);
    };
    bigcode::lay_out(rows, columns, words_of, into(panel));
  }

  template <int kTokens, typename Ask>
  static void pass(const Panel &panel, const char *passing_by, int, int, int columns, const Ask &ask,
                   Floats (&sums)[kTokens][2]) {
    const auto *x = reinterpret_cast<const float *>(passing_by);
    for (int column = 0; column < columns; column += kSome) {
      ask();
      const float *row = panel + column * kPanel;
      add_products<kTokens, 2>({row, row + kLanes}, kPanel, x + column,
                               std::min(kSome, columns - column), sums);
    }
  }
};

}  // namespace
}  // namespace bigcode
