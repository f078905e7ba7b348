// What is done with products, and where they go. Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include <algorithm>

#include "kernels.h"
#include "vec.h"

namespace bigcode {
namespace {

inline Floats tanh_of(Floats x) {
  // Without an exponential that could overflow.
  const Floats shrunk = exponential(-2.0f * (x < 0.0f ? -x : x));
  const Floats size = (1.0f - shrunk) / (1.0f + shrunk);
  return x < 0.0f ? -size : size;
}

inline Floats logistic_of(Floats x) { return reciprocal(1.0f + exponential(-x)); }

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

// What is no number stays none.
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

// Calls `use` with what makes a vector of products, bias added, what is to be stored: `result(x,
// old)`, where `old()` is what is there.
template <typename Use>
inline void with_result(const Outputs &outputs, const Use &use) {
  switch (outputs.then) {
    case Then::kStore: return use([](Floats x, const auto &) { return x; });
    case Then::kAdd: return use([](Floats x, const auto &old) { return old() + x; });
    case Then::kActivate:
      return use([&](Floats x, const auto &) { return activated(outputs.activation, x); });
  }
}

// Finishes `count` products, at most as many as there are lanes.
template <typename Result>
inline void finish(const Result &result, Floats products, const float *bias, float *to, int count) {
  if (bias != nullptr) products += some_floats(bias, count);
  store_some(to, result(products, [&] { return some_floats(to, count); }), count);
}

}  // namespace
}  // namespace bigcode
