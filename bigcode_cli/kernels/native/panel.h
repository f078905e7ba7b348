// Many tokens by a matrix (Goto and van de Geijn 2008). Tokens have been laid crosswise: a vector
// holds one number of each. A row's numbers are then the same for all lanes, and go by where they
// lie, but widened.
//
// Some columns of some rows are at it at a time: widened to strips a constant apart, for there are
// too few registers for their addresses. By them pass panels of tokens: of one the L1 cache holds
// these columns, of all the L2 cache. Meanwhile the rows that come next are asked for.
//
// Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include <type_traits>

#include "finish.h"
#include "tiles.h"
#include "turn.h"

namespace bigcode {
namespace {

// Vectors of tokens that stand side by side: with three a number that is loaded for all lanes is
// used thrice, and eight rows then have as many sums as there are registers for.
constexpr int kVectorsAt = 3, kPanel = kVectorsAt * kLanes;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kPassing = 8;
#else
constexpr int kPassing = 4;
#endif
// Bytes of a row and of a token that pass by at once.
constexpr int kStripBytes = 2048;
// No power of two, by which all would fall to the same few places of the cache.
constexpr int kApart = kStripBytes + 64;
// Rows and tokens whose sums are kept until all columns have passed.
constexpr int kRowsAt = 96, kPanelsAt = 240 / kPanel, kSumsApart = kPanelsAt * kPanel + 2 * kLanes;

// Calls `pass` with a number as a constant: of 1 … kMost, which is taken for a larger one.
template <int kMost, typename Pass>
inline void with_constant(int size, const Pass &pass) {
  if (size >= kMost) return pass(std::integral_constant<int, kMost>{});
  if constexpr (kMost > 1) with_constant<kMost - 1>(size, pass);
}

// Calls `pass(first row, how many)` with a constant number of rows, nearly the same for all.
template <typename Pass>
inline void passing(int rows, const Pass &pass) {
  const int blocks = (rows + kPassing - 1) / kPassing;
  for (int block = 0; block < blocks; ++block) {
    const int row = rows * block / blocks;
    with_constant<kPassing>(rows * (block + 1) / blocks - row, [&](auto some) { pass(row, some); });
  }
}

// Adds products of some numbers of each row, kRowsApart apart, with as many of some vectors of
// tokens: `tokens[v]` is where a vector has its first, the next ones are `stride` further each.
// Sums are in registers only where it is inlined.
template <int kRowsApart, int kRows, int kVectors>
[[gnu::always_inline]] inline void add_products(const float *const (&tokens)[kVectors],
                                                int64_t stride, const float *rows, int count,
                                                Floats (&sums)[kRows][kVectors]) {
  for (int i = 0; i < count; ++i) {
    Floats token[kVectors];
    for (int v = 0; v < kVectors; ++v) token[v] = floats(tokens[v] + i * stride);
    for (int r = 0; r < kRows; ++r) {
      const Floats number = all(rows[r * kRowsApart + i]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] += token[v] * number;
    }
  }
}

// Some bytes of some rows of a matrix.
struct Region {
  const char *start;
  int64_t stride;
  int rows, bytes;
};

// Rows that come next, asked for a little at a time amid other work: asked for at once they would
// hold up what that reads.
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

// Lays 4-byte words of up to kPanel tokens crosswise: to[word][token]. `words_of(token, word)` is
// asked for a vector of them; tokens that are not there get zeros.
template <typename WordsOf>
inline void lay_crosswise(int tokens, int words, const WordsOf &words_of, char *to) {
  for (int first = 0; first < kPanel; first += kLanes) {
    for (int word = 0; word < words; word += kLanes) {
      Ints block[kLanes] = {};
      for (int lane = 0; lane < kLanes && first + lane < tokens; ++lane) {
        block[lane] = words_of(first + lane, word);
      }
      turn(block);
      for (int i = 0; i < kLanes; ++i) {
        std::memcpy(to + 4 * ((word + i) * kPanel + first), &block[i], sizeof block[i]);
      }
    }
  }
}

// Sums of rows become those of tokens, and are finished.
inline void put(const float (&sums)[kRowsAt][kSumsApart], int rows, int tokens, const float *bias,
                const Outputs &outputs) {
  with_result(outputs, [&](const auto &result) {
    for (int token = 0; token < tokens; token += kLanes) {
      const int some = std::min(kLanes, tokens - token);
      for (int row = 0; row < rows; row += kLanes) {
        Ints block[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          block[i] = load<Ints>(sums[std::min(row + i, kRowsAt - 1)] + token);
        }
        turn(block);
        for (int i = 0; i < some; ++i) {
          finish(result, bits_as_floats(block[i]), bias == nullptr ? nullptr : bias + row,
                 outputs.out + (token + i) * outputs.stride + row, rows - row);
        }
      }
    }
  });
}

// What a thread has of its own: some have stacks of 128 KiB alone.
struct Scratch {
  char strips[kRowsAt][kApart];
  float sums[kRowsAt][kSumsApart];
};
static_assert(sizeof(Scratch) <= kProductScratch * sizeof(float), "there is room");

// Rows of a matrix by all tokens. What a kind of numbers has to tell:
//
// - matrix, inputs;
// - kColumns, so many of which pass by at once;
// - region(row, rows, from, columns): where they are in the matrix;
// - widen(row, from, columns, strip): a row's numbers to its strip;
// - pass<kRows, kVectors>(strips, row, token, from, columns, ahead, sums): sums of some tokens,
//   which it adds to from the second columns on.
template <typename Kind>
void by_panels(const Kind &kind, int first, int rows, const Outputs &outputs) {
  auto &[strips, sums] = *reinterpret_cast<Scratch *>(outputs.scratch);
  const int columns = kind.matrix.columns, tokens = kind.inputs.tokens;
  const int end = first + rows;
  // Whole panels, and nearly as many each time.
  const int panels = (tokens + kPanel - 1) / kPanel;
  const int times = (panels + kPanelsAt - 1) / kPanelsAt;
  for (int time = 0; time < times; ++time) {
    const int token = panels * time / times * kPanel;
    const int some_tokens = std::min(tokens, panels * (time + 1) / times * kPanel) - token;
    for (int row = first; row < end; row += kRowsAt) {
      const int some_rows = std::min(kRowsAt, end - row);
      for (int from = 0; from < columns; from += Kind::kColumns) {
        const int some_columns = std::min(Kind::kColumns, columns - from);
        const int next = from + Kind::kColumns;
        for (int r = 0; r < some_rows; ++r) {
          kind.widen(row + r, from, some_columns, strips[r]);
        }
        const Region region =
            next < columns
                ? kind.region(row, some_rows, next, std::min(Kind::kColumns, columns - next))
                : kind.region(row + kRowsAt, std::clamp(end - row - kRowsAt, 0, kRowsAt), 0,
                              std::min(Kind::kColumns, columns));
        const int passes =
            (some_tokens + kPanel - 1) / kPanel * ((some_rows + kPassing - 1) / kPassing);
        Ahead ahead(region, passes * Kind::times(some_columns));
        for (int t = 0; t < some_tokens; t += kPanel) {
          with_constant<kVectorsAt>((some_tokens - t + kLanes - 1) / kLanes, [&](auto vectors) {
            passing(some_rows, [&](int r, auto constant) {
              kind.template pass<decltype(constant)::value, decltype(vectors)::value>(
                  strips[r], row + r, token + t, from, some_columns, ahead, &sums[r][t]);
            });
          });
        }
      }
      Outputs part = outputs;
      part.out += token * outputs.stride + row;
      put(sums, some_rows, some_tokens,
          kind.matrix.bias == nullptr ? nullptr : kind.matrix.bias + row, part);
    }
  }
}

template <typename Number>
struct FloatKind {
  static constexpr int kColumns = kStripBytes / int{sizeof(float)};
  // After so many columns there is time to ask for what comes next.
  static constexpr int kSome = 32;

  const Matrix &matrix;
  const Inputs &inputs;

  static int times(int columns) { return (columns + kSome - 1) / kSome; }

  const Number *at(int64_t row, int column) const {
    return static_cast<const Number *>(matrix.weights) + row * matrix.columns + column;
  }

  Region region(int row, int rows, int from, int columns) const {
    constexpr int kSize = sizeof(Number);
    return {reinterpret_cast<const char *>(at(row, from)), int64_t{matrix.columns} * kSize, rows,
            columns * kSize};
  }

  void widen(int row, int from, int columns, char *strip) const {
    const Number *numbers = at(row, from);
    auto *to = reinterpret_cast<float *>(strip);
    const float scale = scale_of<Number>(matrix, row);
    int column = 0;
    for (; column + kLanes <= columns; column += kLanes) {
      store(to + column, floats(numbers + column) * scale);
    }
    for (; column < columns; ++column) to[column] = single(numbers + column) * scale;
  }

  template <int kRows, int kVectors>
  [[gnu::noinline]] void pass(const char *strips, int, int token, int from, int columns,
                              Ahead &ahead, float *to) const {
    const int64_t before = int64_t{token} / kPanel * padded_columns(matrix.columns) + from;
    const float *tokens = static_cast<const float *>(inputs.crosswise) + before * kPanel;
    Floats sums[kRows][kVectors] = {};
    if (from > 0) {
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) sums[r][v] = floats(to + r * kSumsApart + v * kLanes);
      }
    }
    for (int column = 0; column < columns; column += kSome) {
      ahead.ask();
      const float *vectors[kVectors];
      for (int v = 0; v < kVectors; ++v) vectors[v] = tokens + column * kPanel + v * kLanes;
      add_products<kApart / int{sizeof(float)}, kRows, kVectors>(
          vectors, kPanel, reinterpret_cast<const float *>(strips) + column,
          std::min(kSome, columns - column), sums);
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) store(to + r * kSumsApart + v * kLanes, sums[r][v]);
    }
  }
};

inline void lay_floats_crosswise(const Inputs &inputs, int columns, int panel) {
  const float *values = inputs.values + int64_t{panel} * kPanel * inputs.stride;
  const auto words_of = [&](int token, int column) {
    const float *from = values + token * inputs.stride + column;
    if (column + kLanes <= columns) return load<Ints>(from);
    Ints words = {};
    std::memcpy(&words, from, (columns - column) * sizeof(float));
    return words;
  };
  lay_crosswise(std::min(kPanel, inputs.tokens - panel * kPanel), columns, words_of,
                static_cast<char *>(inputs.crosswise) +
                    int64_t{4} * panel * padded_columns(columns) * kPanel);
}

}  // namespace
}  // namespace bigcode
