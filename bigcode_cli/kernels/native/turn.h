// Rows to columns. Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include <utility>

#include "vec.h"

namespace bigcode {
namespace {

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

}  // namespace
}  // namespace bigcode
