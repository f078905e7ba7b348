// A model's weights, rows' caches, and one pass over some tokens of some rows.

#pragma once

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "pool.h"

namespace bigcode {

struct Norm {
  std::vector<float> gain, shift;
  float epsilon;
};

struct Layer {
  Norm before_attention, before_mlp;
  Matrix projection, output, up, down;
  float attention_factor;  // of the scores
};

struct Geometry {
  int width, inner, heads, kv_heads, head_dim, layers, positions, vocab;
  Activation activation;
};

// Keys and values of one row: for each layer and key head blocks of slots, as kernels.h has them.
class Cache {
 public:
  explicit Cache(const Geometry &geometry) : geometry_(geometry) {}

  // Makes room for so many tokens; what is held stays. Throws std::bad_alloc.
  void reserve(int capacity);

  // Takes the first `length` tokens of another.
  void copy(const Cache &other, int length);

  float *blocks(int layer, int kv_head) {
    return numbers_.data() + (int64_t{layer} * geometry_.kv_heads + kv_head) *
                                blocks_of(capacity_) * block_size(geometry_.head_dim);
  }
  const float *blocks(int layer, int kv_head) const {
    return const_cast<Cache *>(this)->blocks(layer, kv_head);
  }
  int capacity() const { return capacity_; }

  int length = 0;

 private:
  Geometry geometry_;
  int capacity_ = 0;
  Buffer<float> numbers_;
};

// Tokens that one row is fed: behind what its cache holds.
struct Feed {
  Cache *cache;
  const int32_t *ids;
  int count;
};

class Model {
 public:
  Model(const Geometry &geometry, const Kernels &kernels, int threads, bool quantises);

  // Feeds all rows; the caches then hold the tokens. The final norm's output for the places
  // `wanted` (ascending) of all tokens in a row goes to `states` `(count, width)`.
  // The caller has checked ids, positions and capacities.
  void feed(const Feed *rows, int count, const int32_t *wanted, int wanted_count, float *states);

  // Logits `(count, vocab)` of states `(count, width)`.
  void name(const float *states, int count, float *logits);

  // log p, rank and entropy `(count, 3)` of targets under the logits of the states before them.
  void score(const float *states, int count, const int32_t *targets, float *told);

  const Geometry geometry;
  const Kernels &kernels;
  Matrix tokens{};     // (rows, width), embeddings
  Matrix positions{};  // (positions, width)
  Matrix head{};       // the first `vocab` rows count
  std::vector<Layer> layers;
  Norm last;

 private:
  void embed(const Feed *rows, int count);
  void normalise(const Norm &norm, const float *from, int tokens);
  void attend(int layer, const Feed *rows, int count);
  void append(int layer, const Feed *rows, int count);
  // out (+)= matrix * from + bias, or the activation of that; `rows` of the matrix.
  void multiply(const Matrix &matrix, int rows, const float *from, int64_t from_stride,
                int tokens, float *out, int64_t stride, Then then);
  void reserve(int tokens, int longest);

  Pool pool_;
  bool quantises_;
  int room_ = 0;
  int64_t scratch_each_ = 0;
  Buffer<float> hidden_, normed_, projected_, attended_, inner_, scratch_, logits_;
  Buffer<float> factors_, crosswise_;
  Buffer<int8_t> codes_;
  Buffer<int32_t> starts_;
  std::vector<int> tokens_before_;
};

}  // namespace bigcode
