// What an instruction set has to offer: one table of functions for each isa_*.cpp.

#pragma once

#include <cstdint>

namespace bigcode {

// How the numbers of a matrix are stored.
enum class Format : int32_t {
  kFloat = 0,   // IEEE 754 binary32
  kHalf = 1,    // IEEE 754 binary16
  kBrain = 2,   // the upper half of a binary32
  kInt8 = 3,    // codes, times a factor for each row
  kInt4 = 4,    // pairs of codes + 8 (the even column in the lower half), times one for each group
};

enum class Activation : int32_t { kGelu = 0, kGeluTanh = 1, kRelu = 2, kSilu = 3, kTanh = 4 };

// Columns that share a factor: of an int4 matrix, whose rows are filled up to whole groups, and of
// a vector that is quantised. With 256 to a vector's factor mini's perplexity grows by 1.3 % in
// int8 and 5.7 % in int4, with 64 by 0.8 % and 4.7 %.
constexpr int kGroup = 64;

constexpr int groups_of(int columns) { return (columns + kGroup - 1) / kGroup; }
constexpr int padded_columns(int columns) { return groups_of(columns) * kGroup; }

// Row-major, `(rows, columns)`. Nothing of it is owned.
struct Matrix {
  Format format;
  int rows;
  int columns;
  const void *weights;
  const float *scales;  // kInt8 (rows,); kInt4 (rows, groups)
  const float *bias;    // (rows,), or nullptr
};

// Vectors that were quantised on the fly: x = factor * code, a factor for each group.
struct Codes {
  const int8_t *codes;     // of each token `columns`, filled up to whole groups with zeros
  int64_t stride;          // between a token's codes and the next one's
  int columns;
  const float *factors;    // (tokens, groups)
  const int32_t *starts;   // (tokens, groups): from what a group's sum of products is to start, for
                           // codes of a matrix are taken as what they exceed the lowest by
  bool dealt;              // each group's even columns before its odd ones, as int4 holds them
};

// What a matrix is multiplied by: tokens, and their codes where these are to be used.
struct Inputs {
  const float *values;
  int64_t stride;      // between a token's numbers and the next one's
  const Codes *codes;  // nullptr: the numbers themselves
  int tokens;
  void *crosswise;     // crosswise_size(tokens, columns) floats: what `lay_crosswise` put there
};

// Products, bias added, go to out[token * stride + row], or their activations, or they are added to
// what is there.
enum class Then { kStore, kAdd, kActivate };
struct Outputs {
  float *out;
  int64_t stride;
  Then then;
  Activation activation;
  float *scratch;  // kProductScratch floats, of no two threads the same
};
constexpr int64_t kProductScratch = 96 * (528 + 272);

// Many tokens stand in panels of so many at most, the last of which is filled up.
constexpr int kWidestPanel = 48;
constexpr int64_t crosswise_size(int tokens, int columns) {
  return (int64_t{tokens} + kWidestPanel - 1) * padded_columns(columns);
}

// Slots of a cache whose keys lie crosswise: a block of slots is their keys (dim, kSlots), then
// their values (kSlots, dim). So scores of as many slots come out side by side.
constexpr int kSlots = 16;
constexpr int blocks_of(int slots) { return (slots + kSlots - 1) / kSlots; }
constexpr int64_t block_size(int dim) { return int64_t{2} * kSlots * dim; }

// Queries of one call, at most. Some numbers of each are side by side in strips: a constant apart,
// and no power of two, by which all would fall to the same few places of the cache.
constexpr int kMostQueries = 32;
constexpr int kStrip = 512, kStripApart = kStrip + 16;
constexpr int64_t strips_of(int numbers) {
  return int64_t{(numbers + kStrip - 1) / kStrip} * kMostQueries * kStripApart;
}

// Some queries of one key head of one row, and the slots that they see.
struct Attention {
  const float *queries;  // query i is head i % heads of token i / heads, `dim` numbers each
  float *out;            // as the queries
  int query_stride;      // between a token's queries and the next one's
  int out_stride;
  int heads;             // that share the key head
  int first, count;      // queries first … first + count - 1, at most kMostQueries
  const float *cache;    // blocks of slots; those of the last one that nobody sees may be anything
  int past;              // slots before those of the first token: token t sees past + t + 1
  int dim;
  float factor;          // of the scores
  float *scratch;        // strips_of(dim) + strips_of(slots) floats
};

struct Kernels {
  const char *name;

  // Whether so many tokens are laid crosswise before they are multiplied; in panels of `panel`
  // each.
  bool (*is_many)(const Inputs &inputs);
  int panel;
  void (*lay_crosswise)(const Inputs &inputs, int columns, int panel);

  // The matrix times the inputs, for rows `first` … .
  void (*product)(const Matrix &matrix, const Inputs &inputs, int first, int rows,
                  const Outputs &outputs);

  // Codes of one vector; see Codes. Where it has no largest number the factors are NaN.
  void (*quantise)(const float *x, int columns, bool dealt, int8_t *codes, float *factors,
                   int32_t *starts);

  // LayerNorm of one vector (Ba et al. 2016).
  void (*normalise)(const float *x, const float *gain, const float *shift, float epsilon,
                    int columns, float *out);

  void (*attend)(const Attention &task);

  // to[i] = the number of this format at `from + i`, times `scale`.
  void (*widen)(Format format, const void *from, int64_t first, int count, float scale, float *to);

  // The highest logit's id, the lowest of equals; -1 where any is NaN.
  int32_t (*best)(const float *logits, int count);

  // log p(target), its rank (1 and how many are more probable; of equals the lower id is) and the
  // entropy in nats, of the softmax over the logits.
  void (*measure)(const float *logits, int count, int32_t target, float told[3]);

  // exp(x[i] - most) to `to`; returns their sum.
  double (*weigh)(const float *x, int count, float most, float *to);
};

// The best that this processor runs; or by name ("avx512", "avx2", "neon", "portable"), nullptr if
// it does not run that one.
const Kernels *kernels(const char *name = nullptr);

extern const Kernels *const kPortable;
#if defined(__x86_64__)
extern const Kernels *const kAvx2;
extern const Kernels *const kAvx512;
#elif defined(__aarch64__)
extern const Kernels *const kNeon;
#endif

}  // namespace bigcode
