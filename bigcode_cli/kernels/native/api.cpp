// The engine as C sees it: what bigcode_cli/kernels/native/library.py calls.
//
// Nothing throws over this border: a call that runs out of memory says so by what it returns.

#include <limits>
#include <new>

#include "model.h"
#include "sample.h"

using namespace bigcode;

namespace {

constexpr int kDone = 0, kOutOfMemory = 1, kRefused = 2;

template <typename Work>
int guarded(const Work &work) {
  try {
    return work();
  } catch (const std::bad_alloc &) {
    return kOutOfMemory;
  } catch (...) {
    return kRefused;
  }
}

void take(Norm &norm, const float *gain, const float *shift, float epsilon, int width) {
  norm.gain.assign(gain, gain + width);
  norm.shift.assign(shift, shift + width);
  norm.epsilon = epsilon;
}

}  // namespace

extern "C" {

// What library.py writes down again: see bigcode_sizes.
struct bigcode_geometry {
  int32_t width, inner, heads, kv_heads, head_dim, layers, positions, vocab, activation;
  float epsilon;
};

struct bigcode_matrix {
  int32_t format, rows, columns;
  const void *weights;
  const float *scales;
  const float *bias;
};

struct bigcode_layer {
  const float *gain_1, *shift_1, *gain_2, *shift_2;
  bigcode_matrix projection, output, up, down;
  float attention_factor;
};

// The bytes of each structure that crosses the border, in the order of library.py's: a test compares.
void bigcode_sizes(int32_t sizes[4]) {
  sizes[0] = sizeof(bigcode_geometry);
  sizes[1] = sizeof(bigcode_matrix);
  sizes[2] = sizeof(bigcode_layer);
  sizes[3] = sizeof(Sampling);
}

// The name of the instruction set that is used: of `wanted`, or where that is nullptr of the best.
const char *bigcode_instructions(const char *wanted) {
  const Kernels *table = kernels(wanted);
  return table == nullptr ? nullptr : table->name;
}

Model *bigcode_model(const bigcode_geometry *shape, const bigcode_matrix *tokens,
                     const bigcode_matrix *positions, const bigcode_matrix *head,
                     const bigcode_layer *layers, const float *gain, const float *shift,
                     int32_t threads, int32_t quantises, const char *instructions) {
  const Kernels *table = kernels(instructions);
  if (table == nullptr) return nullptr;
  const auto matrix = [](const bigcode_matrix &m) {
    return Matrix{static_cast<Format>(m.format), m.rows, m.columns, m.weights, m.scales, m.bias};
  };
  try {
    const Geometry geometry{shape->width,     shape->inner,  shape->heads,
                            shape->kv_heads,  shape->head_dim, shape->layers,
                            shape->positions, shape->vocab,
                            static_cast<Activation>(shape->activation)};
    auto model = std::make_unique<Model>(geometry, *table, threads, quantises != 0);
    model->tokens = matrix(*tokens);
    model->positions = matrix(*positions);
    model->head = matrix(*head);
    take(model->last, gain, shift, shape->epsilon, shape->width);
    for (int number = 0; number < shape->layers; ++number) {
      const bigcode_layer &from = layers[number];
      Layer layer{};
      take(layer.before_attention, from.gain_1, from.shift_1, shape->epsilon, shape->width);
      take(layer.before_mlp, from.gain_2, from.shift_2, shape->epsilon, shape->width);
      layer.projection = matrix(from.projection);
      layer.output = matrix(from.output);
      layer.up = matrix(from.up);
      layer.down = matrix(from.down);
      layer.attention_factor = from.attention_factor;
      model->layers.push_back(std::move(layer));
    }
    return model.release();
  } catch (...) {
    return nullptr;
  }
}

void bigcode_model_free(Model *model) { delete model; }

Cache *bigcode_cache(const Model *model) { return new (std::nothrow) Cache(model->geometry); }

void bigcode_cache_free(Cache *cache) { delete cache; }

int bigcode_cache_reserve(Cache *cache, int32_t capacity) {
  return guarded([&] {
    cache->reserve(capacity);
    return kDone;
  });
}

int bigcode_cache_copy(Cache *cache, const Cache *other, int32_t length) {
  if (length < 0 || length > other->length) return kRefused;
  return guarded([&] {
    cache->copy(*other, length);
    return kDone;
  });
}

// Forget all tokens but the first ones.
int bigcode_cache_cut(Cache *cache, int32_t length) {
  if (length < 0 || length > cache->length) return kRefused;
  cache->length = length;
  return kDone;
}

// Feeds `count` rows `counts[row]` tokens each, whose ids follow one another in `ids`. Where `logits`
// is no nullptr, those behind the `wanted` tokens go there, `(wanted_count, vocab)`, and always
// their states, `(wanted_count, width)`.
int bigcode_feed(Model *model, Cache *const *caches, const int32_t *ids, const int32_t *counts,
                 int32_t count, const int32_t *wanted, int32_t wanted_count, float *states,
                 float *logits) {
  return guarded([&] {
    std::vector<Feed> rows;
    int64_t before = 0;
    for (int row = 0; row < count; ++row) {
      const int64_t end = int64_t{caches[row]->length} + counts[row];
      if (counts[row] < 1 || end > model->geometry.positions || end > caches[row]->capacity()) {
        return kRefused;
      }
      for (int i = 0; i < counts[row]; ++i) {
        const int32_t id = ids[before + i];
        if (id < 0 || id >= model->tokens.rows) return kRefused;
      }
      for (const Feed &other : rows) {
        if (other.cache == caches[row]) return kRefused;
      }
      rows.push_back({caches[row], ids + before, counts[row]});
      before += counts[row];
    }
    for (int place = 0; place < wanted_count; ++place) {
      if (wanted[place] < 0 || wanted[place] >= before) return kRefused;
    }
    model->feed(rows.data(), count, wanted, wanted_count, states);
    if (logits != nullptr) model->name(states, wanted_count, logits);
    return kDone;
  });
}

int bigcode_score(Model *model, const float *states, int32_t count, const int32_t *targets,
                  float *told) {
  for (int i = 0; i < count; ++i) {
    if (targets[i] < 0 || targets[i] >= model->geometry.vocab) return kRefused;
  }
  return guarded([&] {
    model->score(states, count, targets, told);
    return kDone;
  });
}

Desk *bigcode_desk() { return new (std::nothrow) Desk; }

void bigcode_desk_free(Desk *desk) { delete desk; }

int32_t bigcode_sample(const Model *model, const float *logits, const Sampling *options,
                       const uint8_t *seen, const int32_t *allowed, int32_t allowed_count,
                       double uniform, Desk *desk) {
  return sample(model->kernels, logits, model->geometry.vocab, *options, seen, allowed,
                allowed_count, uniform, *desk);
}

// Of an `id` that is none of the logits' the log-probability is that of 0.
float bigcode_log_probabilities(const Model *model, const float *logits, int32_t id, int32_t most,
                                int32_t *ids, float *log_p, Desk *desk) {
  if (id < 0 || id >= model->geometry.vocab) return -std::numeric_limits<float>::infinity();
  return log_probabilities(model->kernels, logits, model->geometry.vocab, id, most, ids, log_p,
                           *desk);
}

}  // extern "C"
