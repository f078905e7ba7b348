#include "sample.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bigcode {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

float highest(const std::vector<float> &x) { return *std::max_element(x.begin(), x.end()); }

// Ids by weight, the heaviest first and of equals the lowest, as far as they are wanted: until
// `enough(ids)` of those that weigh at least the half of the half … of the heaviest.
template <typename Enough>
void heaviest(const std::vector<float> &weights, std::vector<int32_t> &ids, const Enough &enough) {
  const int count = static_cast<int>(weights.size());
  for (float least = 0.25f;; least *= 0.25f) {
    const bool is_last = least < 1e-7f;
    ids.clear();
    for (int id = 0; id < count; ++id) {
      if (weights[id] >= least || (is_last && weights[id] > 0)) ids.push_back(id);
    }
    if (is_last || enough(ids)) break;
  }
  std::sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    return weights[a] > weights[b] || (weights[a] == weights[b] && a < b);
  });
}

// Those of `ids`, heaviest first, that top-k, top-p and min-p keep; weights are e^(logit - best).
void filter(const std::vector<float> &weights, const Sampling &options, double total,
            std::vector<int32_t> &ids) {
  const size_t most = options.top_k > 0 ? options.top_k : weights.size();
  const auto mass = [&](const std::vector<int32_t> &some) {
    double sum = 0;
    for (int32_t id : some) sum += weights[id];
    return sum;
  };
  heaviest(weights, ids, [&](const std::vector<int32_t> &some) {
    if (options.top_k > 0) return some.size() >= most;
    // What weighs less than min-p lets falls away, whether or not it is among these.
    return mass(some) >= options.top_p * total * (1 + 1e-6);
  });
  if (ids.size() > most) ids.resize(most);
  if (options.top_k > 0) total = mass(ids);
  double before = 0;
  size_t kept = 0;
  for (; kept < ids.size(); ++kept) {
    const float weight = weights[ids[kept]];
    // A token is in the nucleus while those before it fall short of top_p; the first always is.
    if (options.top_p < 1 && kept > 0 && before / total >= options.top_p) break;
    if (weight < options.min_p) break;  // the best one weighs 1
    before += weight;
  }
  ids.resize(std::max<size_t>(kept, 1));
}

}  // namespace

int32_t sample(const Kernels &kernels, const float *logits, int count, const Sampling &options,
               const uint8_t *seen, const int32_t *allowed, int allowed_count, double uniform,
               Desk &desk) {
  const int32_t best = kernels.best(logits, count);
  if (best < 0) return -1;
  const bool penalises = seen != nullptr && options.penalty != 1;
  if (options.temperature == 0 && !penalises && allowed == nullptr) return best;
  desk.logits.assign(logits, logits + count);
  if (penalises) {
    // Keskar et al. 2019, CTRL; by the sign, as in transformers.
    for (int id = 0; id < count; ++id) {
      float &logit = desk.logits[id];
      if (seen[id]) logit = logit > 0 ? logit / options.penalty : logit * options.penalty;
    }
  }
  if (allowed != nullptr) {
    desk.weights.assign(count, kNever);
    for (int i = 0; i < allowed_count; ++i) {
      const int32_t id = allowed[i];
      if (id >= 0 && id < count) desk.weights[id] = desk.logits[id];
    }
    desk.logits.swap(desk.weights);
  }
  if (options.temperature == 0) {
    const int32_t id = kernels.best(desk.logits.data(), count);
    return id < 0 || desk.logits[id] == kNever ? -1 : id;
  }
  // The best is 0 then: divided by a very small temperature, no other is larger.
  const float most = highest(desk.logits);
  for (float &logit : desk.logits) logit = (logit - most) / options.temperature;
  desk.weights.resize(count);
  const double total = kernels.weigh(desk.logits.data(), count, 0, desk.weights.data());
  if (std::isnan(total)) return -1;
  if (options.top_k > 0 || options.top_p < 1 || options.min_p > 0) {
    filter(desk.weights, options, total, desk.ids);
    std::sort(desk.ids.begin(), desk.ids.end());
  } else {
    desk.ids.clear();
    for (int id = 0; id < count; ++id) {
      if (desk.weights[id] > 0) desk.ids.push_back(id);
    }
  }
  // The inverse of the cumulative distribution, in id order.
  double whole = 0, sum = 0;
  for (int32_t id : desk.ids) whole += desk.weights[id];
  for (int32_t id : desk.ids) {
    sum += desk.weights[id];
    if (sum > uniform * whole) return id;
  }
  return desk.ids.back();
}

float log_probabilities(const Kernels &kernels, const float *logits, int count, int32_t id, int most,
                        int32_t *ids, float *log_p, Desk &desk) {
  desk.weights.resize(count);
  const float highest_logit = *std::max_element(logits, logits + count);
  const double total = kernels.weigh(logits, count, highest_logit, desk.weights.data());
  const double log_total = std::log(total) + highest_logit;
  desk.ids.resize(count);
  for (int i = 0; i < count; ++i) desk.ids[i] = i;
  most = std::clamp(most, 0, count);
  std::partial_sort(desk.ids.begin(), desk.ids.begin() + most, desk.ids.end(),
                    [&](int32_t a, int32_t b) {
                      return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
                    });
  for (int i = 0; i < most; ++i) {
    ids[i] = desk.ids[i];
    log_p[i] = static_cast<float>(logits[desk.ids[i]] - log_total);
  }
  return static_cast<float>(logits[id] - log_total);
}

}  // namespace bigcode
