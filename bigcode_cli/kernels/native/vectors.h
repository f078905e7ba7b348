// What is done to one vector at a time. Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include <algorithm>
#include <limits>

#include "kernels.h"
#include "vec.h"

namespace bigcode {
namespace {

// Calls `body(i, vector)` for all whole vectors of x, then for what is left, filled up by
// `filling`.
template <typename Body>
inline void each(const float *x, int count, float filling, const Body &body) {
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, floats(x + i));
  if (i < count) {
    Floats rest = all(filling);
    std::memcpy(&rest, x + i, (count - i) * sizeof(float));
    body(i, rest);
  }
}

inline float highest_of(const float *x, int count) {
  Floats most = all(-std::numeric_limits<float>::infinity());
  each(x, count, -std::numeric_limits<float>::infinity(),
       [&](int, Floats some) { most = larger(some, most); });
  return highest(most);
}

// The even bytes of a group, then the odd ones.
inline void deal(int8_t *codes) {
  typedef uint16_t Twos __attribute__((vector_size(kGroup)));
  typedef uint8_t Ones __attribute__((vector_size(kGroup / 2)));
  Twos twos;
  std::memcpy(&twos, codes, sizeof twos);
  const Ones even = __builtin_convertvector(twos & 255, Ones);
  const Ones odd = __builtin_convertvector(twos >> 8, Ones);
  std::memcpy(codes, &even, sizeof even);
  std::memcpy(codes + kGroup / 2, &odd, sizeof odd);
}

// Codes of kGroup numbers; gives their sum.
inline int32_t quantise_group(const float *x, float inverse, int8_t *codes) {
  typedef int8_t Some __attribute__((vector_size(kLanes)));
  Ints total = {};
  for (int i = 0; i < kGroup; i += kLanes) {
    // 1.5 * 2^23 rounds to the nearest whole number, of two the even one.
    const Floats near = (floats(x + i) * inverse + 12582912.0f) - 12582912.0f;
    const Ints whole = __builtin_convertvector(near, Ints);
    const Some some = __builtin_convertvector(whole, Some);
    std::memcpy(codes + i, &some, sizeof some);
    total += whole;
  }
  int32_t sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += total[lane];
  return sum;
}

void quantise(const float *x, int columns, bool dealt, int8_t *codes, float *factors,
              int32_t *starts) {
  for (int group = 0; group < groups_of(columns); ++group, x += kGroup, codes += kGroup) {
    float filled[kGroup];
    const float *from = x;
    const int count = std::min(kGroup, columns - group * kGroup);
    if (count < kGroup) {
      std::fill(std::copy(x, x + count, filled), filled + kGroup, 0.0f);
      from = filled;
    }
    Floats most = {}, check = {};
    for (int i = 0; i < kGroup; i += kLanes) {
      const Floats some = floats(from + i);
      most = larger(most, larger(some, -some));
      // What is no number is passed over by a maximum, and would be lost in a code.
      check += some * 0.0f;
    }
    factors[group] = highest(most) / 127 + sum(check);
    // The inverse of a smaller one is infinite, and NaN has no code either.
    if (!(factors[group] >= std::numeric_limits<float>::min())) {
      std::memset(codes, 0, kGroup);
      starts[group] = 0;
      continue;
    }
    const int32_t sum = quantise_group(from, 1 / factors[group], codes);
    starts[group] = -(dealt ? kPairShift : kShift) * sum;
    if (dealt) deal(codes);
  }
}

void normalise(const float *x, const float *gain, const float *shift, float epsilon, int columns,
               float *out) {
  Floats total = {};
  each(x, columns, 0, [&](int, Floats some) { total += some; });
  const float mean = sum(total) / columns;
  Floats squares = {};
  each(x, columns, mean, [&](int, Floats some) { squares += (some - mean) * (some - mean); });
  const float scale = 1 / std::sqrt(sum(squares) / columns + epsilon);
  for (int i = 0; i < columns; ++i) out[i] = (x[i] - mean) * scale * gain[i] + shift[i];
}

template <typename Number>
void widen_as(const void *from, int64_t first, int count, float scale, float *to) {
  const auto *numbers = static_cast<const Number *>(from) + first;
  for (int i = 0; i < count; ++i) to[i] = single(numbers + i) * scale;
}

void widen(Format format, const void *from, int64_t first, int count, float scale, float *to) {
  switch (format) {
    case Format::kFloat: return widen_as<float>(from, first, count, scale, to);
    case Format::kHalf: return widen_as<Half>(from, first, count, scale, to);
    case Format::kBrain: return widen_as<Brain>(from, first, count, scale, to);
    case Format::kInt8: return widen_as<int8_t>(from, first, count, scale, to);
    case Format::kInt4: return;  // no table of embeddings is stored so
  }
}

int32_t best(const float *logits, int count) {
  float check = 0;
  for (int i = 0; i < count; ++i) check += logits[i] == logits[i] ? 0.0f : 1.0f;
  if (check > 0) return -1;
  const float most = highest_of(logits, count);
  for (int i = 0; i < count; ++i) {
    if (logits[i] == most) return i;
  }
  return -1;
}

double weigh(const float *x, int count, float most, float *to) {
  // Sums of vectors in double precision: 49,152 numbers lose 2^-24 of their sum otherwise.
  double total = 0;
  for (int start = 0; start < count; start += 1024) {
    const int some = std::min(1024, count - start);
    Floats part = {};
    each(x + start, some, -std::numeric_limits<float>::infinity(), [&](int i, Floats logits) {
      const Floats weights = exponential(logits - most);
      store_some(to + start + i, weights, some - i);
      part += weights;
    });
    total += sum(part);
  }
  return total;
}

void measure(const float *logits, int count, int32_t target, float told[3]) {
  const float most = highest_of(logits, count), wanted = logits[target];
  double total = 0, weighted = 0;
  int before = 0;
  for (int start = 0; start < count; start += 1024) {
    const int some = std::min(1024, count - start);
    Floats sums = {}, products = {};
    each(logits + start, some, -1e30f, [&](int, Floats x) {
      const Floats weights = exponential(x - most);
      sums += weights;
      products += weights * (x - most);
    });
    total += sum(sums);
    weighted += sum(products);
    for (int i = start; i < start + some; ++i) {
      before += logits[i] > wanted || (logits[i] == wanted && i < target);
    }
  }
  const double log_total = std::log(total);
  told[0] = static_cast<float>(wanted - most - log_total);
  told[1] = static_cast<float>(before + 1);
  told[2] = static_cast<float>(log_total - weighted / total);
}

}  // namespace
}  // namespace bigcode
