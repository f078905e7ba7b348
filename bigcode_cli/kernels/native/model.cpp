#include "model.h"

#include <algorithm>
#include <cstring>

namespace bigcode {
namespace {

// Rows of a matrix that are one piece of work, at least: less is not worth a thread's look.
constexpr int kLeastRows = 32;
// Pieces for each thread: whoever is put aside by the system leaves the rest to the others.
constexpr int kPieces = 4;
// Logits in memory at once when texts are scored.
constexpr int kScored = 240;

// Numbers from one token's vector to the next one's: of a power of two all would fall to the same few
// places of the caches.
int64_t apart(int columns) { return columns + 16; }
int64_t codes_apart(int columns) { return padded_columns(columns) + 64; }

}  // namespace

void Cache::reserve(int capacity) {
  if (capacity <= capacity_) return;
  const int heads = geometry_.layers * geometry_.kv_heads;
  const int64_t block = block_size(geometry_.head_dim);
  const int64_t each = blocks_of(capacity) * block, old = blocks_of(capacity_) * block;
  Buffer<float> larger(heads * each);
  for (int head = 0; head < heads && length > 0; ++head) {
    std::memcpy(larger.data() + head * each, numbers_.data() + head * old,
                sizeof(float) * blocks_of(length) * block);
  }
  numbers_ = std::move(larger);
  capacity_ = capacity;
}

void Cache::copy(const Cache &other, int kept) {
  length = 0;
  if (kept == 0) return;
  reserve(std::max(kept, capacity_));
  for (int layer = 0; layer < geometry_.layers; ++layer) {
    for (int head = 0; head < geometry_.kv_heads; ++head) {
      std::memcpy(blocks(layer, head), other.blocks(layer, head),
                  sizeof(float) * blocks_of(kept) * block_size(geometry_.head_dim));
    }
  }
  length = kept;
}

Model::Model(const Geometry &shape, const Kernels &table, int threads, bool quantises)
    : geometry(shape), kernels(table), pool_(threads), quantises_(quantises) {}

void Model::reserve(int tokens, int longest) {
  if (tokens > room_) {
    const int widest = std::max(geometry.inner, geometry.width);
    const int projected = geometry.width + 2 * geometry.kv_heads * geometry.head_dim;
    hidden_.reserve(tokens * apart(geometry.width));
    normed_.reserve(tokens * apart(geometry.width));
    attended_.reserve(tokens * apart(geometry.width));
    projected_.reserve(int64_t{tokens} * projected);
    inner_.reserve(tokens * apart(geometry.inner));
    codes_.reserve(tokens * codes_apart(widest));
    factors_.reserve(int64_t{tokens} * groups_of(widest));
    starts_.reserve(int64_t{tokens} * groups_of(widest));
    crosswise_.reserve(crosswise_size(tokens, widest));
    room_ = tokens;
  }
  const int64_t each = std::max(strips_of(geometry.head_dim) + strips_of(longest), kProductScratch);
  if (each > scratch_each_) {
    scratch_each_ = 2 * each;
    scratch_.reserve(scratch_each_ * pool_.threads());
  }
}

void Model::feed(const Feed *rows, int count, const int32_t *wanted, int wanted_count,
                 float *states) {
  tokens_before_.assign(1, 0);
  int longest = 0;
  for (int row = 0; row < count; ++row) {
    tokens_before_.push_back(tokens_before_.back() + rows[row].count);
    longest = std::max(longest, rows[row].cache->length + rows[row].count);
  }
  const int tokens = tokens_before_.back();
  reserve(tokens, longest);
  embed(rows, count);
  const int width = geometry.width;
  const int projected = width + 2 * geometry.kv_heads * geometry.head_dim;
  for (int number = 0; number < geometry.layers; ++number) {
    const Layer &layer = layers[number];
    normalise(layer.before_attention, hidden_.data(), tokens);
    multiply(layer.projection, projected, normed_.data(), apart(width), tokens,
             projected_.data(), projected, Then::kStore);
    append(number, rows, count);
    attend(number, rows, count);
    multiply(layer.output, width, attended_.data(), apart(width), tokens, hidden_.data(),
             apart(width), Then::kAdd);
    normalise(layer.before_mlp, hidden_.data(), tokens);
    multiply(layer.up, geometry.inner, normed_.data(), apart(width), tokens, inner_.data(),
             apart(geometry.inner), Then::kActivate);
    multiply(layer.down, width, inner_.data(), apart(geometry.inner), tokens, hidden_.data(),
             apart(width), Then::kAdd);
  }
  for (int row = 0; row < count; ++row) rows[row].cache->length += rows[row].count;
  for (int place = 0; place < wanted_count; ++place) {
    kernels.normalise(hidden_.data() + wanted[place] * apart(width), last.gain.data(),
                      last.shift.data(), last.epsilon, width, states + int64_t{place} * width);
  }
}

void Model::embed(const Feed *rows, int count) {
  const int width = geometry.width;
  for (int row = 0; row < count; ++row) {
    for (int i = 0; i < rows[row].count; ++i) {
      const int64_t id = rows[row].ids[i], position = rows[row].cache->length + i;
      float *to = hidden_.data() + (tokens_before_[row] + i) * apart(width);
      float *added = normed_.data();
      kernels.widen(tokens.format, tokens.weights, id * width, width,
                    tokens.scales == nullptr ? 1.0f : tokens.scales[id], to);
      kernels.widen(positions.format, positions.weights, position * width, width,
                    positions.scales == nullptr ? 1.0f : positions.scales[position], added);
      for (int column = 0; column < width; ++column) to[column] += added[column];
    }
  }
}

void Model::normalise(const Norm &norm, const float *from, int count) {
  const int width = geometry.width;
  const auto one = [&](int token, int) {
    kernels.normalise(from + token * apart(width), norm.gain.data(), norm.shift.data(),
                      norm.epsilon, width, normed_.data() + token * apart(width));
  };
  if (count < pool_.threads() * 4) {
    for (int token = 0; token < count; ++token) one(token, 0);
  } else {
    pool_.run(count, one);
  }
}

void Model::append(int layer, const Feed *rows, int count) {
  const int dim = geometry.head_dim, heads = geometry.heads, kv_heads = geometry.kv_heads;
  const int64_t stride = geometry.width + 2 * kv_heads * dim;
  for (int row = 0; row < count; ++row) {
    for (int i = 0; i < rows[row].count; ++i) {
      const float *from = projected_.data() + (tokens_before_[row] + i) * stride;
      for (int head = 0; head < kv_heads; ++head) {
        // One key head: all queries, a key, a value. Else for each head a query, a key, a value.
        const float *key = kv_heads == 1 ? from + heads * dim : from + (3 * head + 1) * dim;
        const int slot = rows[row].cache->length + i, in_block = slot % kSlots;
        float *block =
            rows[row].cache->blocks(layer, head) + slot / kSlots * block_size(dim);
        for (int column = 0; column < dim; ++column) block[column * kSlots + in_block] = key[column];
        std::memcpy(block + (kSlots + in_block) * dim, key + dim, sizeof(float) * dim);
      }
    }
  }
}

void Model::attend(int layer, const Feed *rows, int count) {
  const int dim = geometry.head_dim, kv_heads = geometry.kv_heads;
  const int shared = geometry.heads / kv_heads;
  const int64_t stride = geometry.width + 2 * kv_heads * dim;
  // Pieces are of one row and one key head: those of a row and head follow one another.
  const auto pieces_of = [&](int row, int queries) {
    return (rows[row].count * shared + queries - 1) / queries;
  };
  int queries = kMostQueries;
  if (count * kv_heads == 1) {
    const int all = rows[0].count * shared;
    queries = std::min(kMostQueries, std::max(1, (all + pool_.threads() - 1) / pool_.threads()));
  }
  int pieces = 0;
  for (int row = 0; row < count; ++row) pieces += pieces_of(row, queries) * kv_heads;
  pool_.run(pieces, [&](int piece, int thread) {
    int row = 0;
    while (piece >= pieces_of(row, queries) * kv_heads) {
      piece -= pieces_of(row, queries) * kv_heads;
      ++row;
    }
    const int head = piece % kv_heads, first = piece / kv_heads * queries;
    const int64_t before = tokens_before_[row];
    Attention task;
    // With one key head queries lie side by side; else each before its key and value.
    task.queries = projected_.data() + before * stride + (kv_heads == 1 ? 0 : 3 * head * dim);
    task.query_stride = static_cast<int>(stride);
    task.out = attended_.data() + before * apart(geometry.width) + int64_t{head} * shared * dim;
    task.out_stride = static_cast<int>(apart(geometry.width));
    task.heads = shared;
    task.first = first;
    task.count = std::min(queries, rows[row].count * shared - first);
    task.cache = rows[row].cache->blocks(layer, head);
    task.past = rows[row].cache->length;
    task.dim = dim;
    task.factor = layers[layer].attention_factor;
    task.scratch = scratch_.data() + thread * scratch_each_;
    kernels.attend(task);
  });
}

void Model::multiply(const Matrix &matrix, int rows, const float *from, int64_t from_stride,
                     int count, float *out, int64_t stride, Then then) {
  const bool is_int = matrix.format == Format::kInt8 || matrix.format == Format::kInt4;
  const bool quantises = is_int && (quantises_ || matrix.format == Format::kInt4);
  const Codes codes{codes_.data(),   codes_apart(matrix.columns), matrix.columns,
                    factors_.data(), starts_.data(),              matrix.format == Format::kInt4};
  const Inputs inputs{from, from_stride, quantises ? &codes : nullptr, count, crosswise_.data()};
  if (quantises) {
    const int columns = matrix.columns;
    const auto one = [&](int token, int) {
      kernels.quantise(from + token * from_stride, columns, codes.dealt,
                       codes_.data() + token * codes.stride,
                       factors_.data() + int64_t{token} * groups_of(columns),
                       starts_.data() + int64_t{token} * groups_of(columns));
    };
    if (count < pool_.threads() * 4) {
      for (int token = 0; token < count; ++token) one(token, 0);
    } else {
      pool_.run(count, one);
    }
  }
  if (kernels.is_many(inputs)) {
    pool_.run((count + kernels.panel - 1) / kernels.panel, [&](int panel, int) {
      kernels.lay_crosswise(inputs, matrix.columns, panel);
    });
  }
  const int most = pool_.threads() * kPieces;
  int each = std::max(kLeastRows, (rows + most - 1) / most);
  each = (each + kLeastRows - 1) / kLeastRows * kLeastRows;
  pool_.run((rows + each - 1) / each, [&](int piece, int thread) {
    const Outputs outputs{out, stride, then, geometry.activation,
                          scratch_.data() + thread * scratch_each_};
    const int first = piece * each, some = std::min(each, rows - first);
    kernels.product(matrix, inputs, first, some, outputs);
  });
}

void Model::name(const float *states, int count, float *logits) {
  reserve(count, 0);
  multiply(head, geometry.vocab, states, geometry.width, count, logits, geometry.vocab,
           Then::kStore);
}

void Model::score(const float *states, int count, const int32_t *targets, float *told) {
  const int vocab = geometry.vocab;
  logits_.reserve(int64_t{std::min(count, kScored)} * vocab);
  for (int from = 0; from < count; from += kScored) {
    const int some = std::min(kScored, count - from);
    name(states + int64_t{from} * geometry.width, some, logits_.data());
    pool_.run(some, [&](int token, int) {
      kernels.measure(logits_.data() + int64_t{token} * vocab, vocab, targets[from + token],
                      told + 3 * int64_t{from + token});
    });
  }
}

}  // namespace bigcode
