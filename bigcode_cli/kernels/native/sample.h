// One token drawn from logits: the specification is backends/sampling.py, which is the slow twin.

#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace bigcode {

struct Sampling {
  float temperature;  // 0: the best
  int32_t top_k;      // 0: all
  float top_p;        // 1: all
  float min_p;        // 0: all
  float penalty;      // 1: none
};

// What a draw needs room for; kept between draws.
struct Desk {
  std::vector<float> logits, weights;
  std::vector<int32_t> ids;
};

// The id, or -1 where a logit is no number, or an infinite one leaves nothing to draw from.
//
// `seen` (count) says which tokens the penalty is for; nullptr: none. `allowed`: the only ids that
// may be drawn, ascending; nullptr: all.
// Those outside 0 … count - 1 cannot. `uniform` in [0, 1).
int32_t sample(const Kernels &kernels, const float *logits, int count, const Sampling &options,
               const uint8_t *seen, const int32_t *allowed, int allowed_count, double uniform,
               Desk &desk);

// The log-probability of `id`, and of the `most` best ids, best first, of equals the lowest.
float log_probabilities(const Kernels &kernels, const float *logits, int count, int32_t id, int most,
                        int32_t *ids, float *log_p, Desk &desk);

}  // namespace bigcode
