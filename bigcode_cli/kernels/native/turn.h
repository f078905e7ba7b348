// Rows to columns. Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include <utility>

#include "vec.h"

namespace bigcode {
namespace {

// Lanes of two vectors by turns: of their lower halves, then of their upper ones.
template <int... kLane>
inline void interleave(Ints a, Ints b, Ints &lower, Ints &upper,
                       std::integer_sequence<int, kLane...>) {
#if defined(__clang__)
  lower = __builtin_shufflevector(a, b, (kLane / 2 + kLane % 2 * kLanes)...);
  upper = __builtin_shufflevector(a, b, (kLane / 2 + kLane % 2 * kLanes + kLanes / 2)...);
#else
  lower = __builtin_shuffle(a, b, Ints{(kLane / 2 + kLane % 2 * kLanes)...});
  upper = __builtin_shuffle(a, b, Ints{(kLane / 2 + kLane % 2 * kLanes + kLanes / 2)...});
#endif
}

// Rows become columns, of as many vectors as they have lanes. Each round takes a bit of a row's
// number to the lanes and one of the lanes' to the rows (Stone 1971, the perfect shuffle).
inline void turn(Ints (&x)[kLanes]) {
  for (int round = 1; round < kLanes; round *= 2) {
    Ints next[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) {
      interleave(x[i], x[i + kLanes / 2], next[2 * i], next[2 * i + 1],
                 std::make_integer_sequence<int, kLanes>{});
    }
    for (int i = 0; i < kLanes; ++i) x[i] = next[i];
  }
}

}  // namespace
}  // namespace bigcode
