// What is done to one vector at a time. Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include <algorithm>
#include <limits>

#include "kernels.h"
#include "vec.h"

namespace bigcode {
namespace {

// Calls `body(i, vector)` for all whole vectors of x, then for what is left, filled up by `filling`.
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

void quantise(const float *x, int columns, bool dealt, int8_t *codes, float *factors, int32_t *starts) {
  for (int group = 0; group < groups_of(columns); ++group) {
    const float *from = x + group * kGroup;
    const int count = std::min(kGroup, columns - group * kGroup);
    Floats most = {}, check = {};
    each(from, count, 0, [&](int, Floats some) {
      most = larger(most, larger(some, -some));
      // What is no number is passed over by a maximum, and would be lost in a code.
      check += some * 0.0f;
    });
    const float factor = highest(most) / 127 + sum(check);
    // The inverse of a smaller one is infinite, and NaN has no code either.
    const bool has_codes = factor >= std::numeric_limits<float>::min();
    const float inverse = has_codes ? 1 / factor : 0;
    float near[kGroup] = {};
    if (has_codes) {
      // 1.5 * 2^23 rounds to the nearest whole number, of two the even one.
      for (int i = 0; i < count; ++i) near[i] = (from[i] * inverse + 12582912.0f) - 12582912.0f;
    }
    int32_t whole[kGroup], total = 0;
    for (int i = 0; i < kGroup; ++i) whole[i] = static_cast<int32_t>(near[i]);
    for (int i = 0; i < kGroup; ++i) total += whole[i];
    factors[group] = factor;
    starts[group] = -(dealt ? kPairShift : kShift) * total;
    int8_t *to = codes + group * kGroup;
    if (dealt) {
      for (int i = 0; i < kGroup / 2; ++i) {
        to[i] = static_cast<int8_t>(whole[2 * i]);
        to[i + kGroup / 2] = static_cast<int8_t>(whole[2 * i + 1]);
      }
    } else {
      for (int i = 0; i < kGroup; ++i) to[i] = static_cast<int8_t>(whole[i]);
    }
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

inline Floats tanh_of(Floats x) {
  // Without an exponential that could overflow.
  const Floats shrunk = exponential(-2.0f * (x < 0.0f ? -x : x));
  const Floats size = (1.0f - shrunk) / (1.0f + shrunk);
  return x < 0.0f ? -size : size;
}

inline Floats logistic_of(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

// erf within 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26).
inline Floats erf_of(Floats x) {
  const Floats size = x < 0.0f ? -x : x;
  const Floats t = 1.0f / (1.0f + 0.3275911f * size);
  Floats p = all(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const Floats y = 1.0f - p * t * exponential(-size * size);
  return x < 0.0f ? -y : y;
}

inline Floats activated(Activation kind, Floats x) {
  switch (kind) {
    case Activation::kGelu: return 0.5f * x * (1.0f + erf_of(x * 0.70710678118654752f));
    // (1 + tanh u) / 2 is the logistic function of 2u.
    case Activation::kGeluTanh:
      return x * logistic_of(1.5957691216057308f * (x + 0.044715f * x * x * x));
    case Activation::kRelu: return x < 0.0f ? Floats{} : x;
    case Activation::kSilu: return x * logistic_of(x);
    case Activation::kTanh: return tanh_of(x);
  }
  return x;
}

template <typename Result>
inline void finish_by(const float *products, const float *bias, int count, float *out,
                      const Result &result) {
  each(products, count, 0, [&](int i, Floats x) {
    Floats added = {}, old = {};
    if (i + kLanes <= count) {
      if (bias != nullptr) added = floats(bias + i);
      return store(out + i, result(x + added, floats(out + i)));
    }
    const size_t left = (count - i) * sizeof(float);
    if (bias != nullptr) std::memcpy(&added, bias + i, left);
    std::memcpy(&old, out + i, left);
    store_some(out + i, result(x + added, old), count - i);
  });
}

void finish(Then then, Activation kind, const float *products, const float *bias, int count,
            float *out) {
  switch (then) {
    case Then::kStore:
      if (products == out && bias == nullptr) return;
      return finish_by(products, bias, count, out, [](Floats x, Floats) { return x; });
    case Then::kAdd:
      return finish_by(products, bias, count, out, [](Floats x, Floats old) { return old + x; });
    case Then::kActivate:
      return finish_by(products, bias, count, out, [kind](Floats x, Floats) {
        // What is no number must stay none, whatever comparisons made of it.
        return x == x ? activated(kind, x) : x;
      });
  }
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
