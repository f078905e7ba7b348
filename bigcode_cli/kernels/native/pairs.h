// int4: two codes a byte. Included by the isa_*.cpp alone; see vec.h.

#pragma once

#include "tiles.h"

namespace bigcode {
namespace {

constexpr int kPairBytes = kGroup / 2;
// Groups whose pairs fill a vector, or vectors that a group's pairs fill.
constexpr int kSpan = kBytes > kPairBytes ? kBytes / kPairBytes : 1;
constexpr int kParts = kBytes > kPairBytes ? 1 : kPairBytes / kBytes;

typedef uint8_t Pairs __attribute__((vector_size(kBytes)));

// Codes of the even columns, in the lower halves, and of the odd ones. Shifted as 16-bit numbers:
// no instruction set here shifts bytes.
template <typename Vector>
inline Vector even_codes(Vector pairs) { return pairs & 15; }
template <typename Vector>
inline Vector odd_codes(Vector pairs) {
  typedef uint16_t Shorts __attribute__((vector_size(sizeof(Vector))));
  return reinterpret_cast<Vector>(reinterpret_cast<Shorts>(pairs) >> 4) & 15;
}

// A group's codes, each in a byte: those of its even columns, then those of its odd ones.
inline void unpack(const uint8_t *pairs, char *codes) {
  constexpr int kSome = kBytes < kPairBytes ? kBytes : kPairBytes;
  typedef uint8_t Some __attribute__((vector_size(kSome)));
  for (int i = 0; i < kPairBytes; i += kSome) {
    const Some some = load<Some>(pairs + i);
    const Some even = even_codes(some), odd = odd_codes(some);
    std::memcpy(codes + i, &even, kSome);
    std::memcpy(codes + kPairBytes + i, &odd, kSome);
  }
}

// A number for each group of a span, on the lanes of its codes; `kThere` of them are there.
template <int kThere>
inline Floats spread(const float *numbers) {
#if defined(__AVX512F__)
  const __m256 first = _mm256_set1_ps(numbers[0]);
  const __m256 second = kThere == 2 ? _mm256_set1_ps(numbers[1]) : _mm256_setzero_ps();
  return reinterpret_cast<Floats>(_mm512_insertf32x8(_mm512_castps256_ps512(first), second, 1));
#else
  return all(numbers[0]);
#endif
}

// What the groups of a span start from, each on one of its lanes.
template <int kThere>
inline Ints starts_of(const int32_t *starts) {
  Ints lanes = first_lane(starts[0]);
  if constexpr (kThere == 2) lanes[kLanes / 2] = starts[1];
  return lanes;
}

// A token's codes of a span, dealt: those that the even codes meet, and the odd ones.
template <int kThere>
inline void met_by_pairs(const int8_t *codes, Bytes (&even)[kParts], Bytes (&odd)[kParts]) {
#if defined(__AVX512F__)
  const __m512i first = _mm512_loadu_si512(codes);
  const __m512i second =
      kThere == 2 ? _mm512_loadu_si512(codes + kGroup) : _mm512_setzero_si512();
  even[0] = reinterpret_cast<Bytes>(_mm512_shuffle_i64x2(first, second, 0x44));
  odd[0] = reinterpret_cast<Bytes>(_mm512_shuffle_i64x2(first, second, 0xee));
#else
  for (int part = 0; part < kParts; ++part) {
    even[part] = load<Bytes>(codes + part * kBytes);
    odd[part] = load<Bytes>(codes + kPairBytes + part * kBytes);
  }
#endif
}

template <int kRows, int kTokens>
inline void int4_tile(const uint8_t *weights, const float *scales, const Codes &x, int token,
                      int columns, float (&out)[kTokens][kRows]) {
  const int groups = groups_of(columns);
  const int64_t row_stride = groups * kPairBytes;
  const int8_t *codes = x.codes + token * x.stride;
  const int32_t *starts = x.starts + int64_t{token} * groups;
  const float *factors = x.factors + int64_t{token} * groups;
  Floats sums[kTokens][kRows] = {};
  const auto across = [&](int group, auto there) {
    constexpr int kThere = decltype(there)::value;
    Bytes even[kTokens][kParts], odd[kTokens][kParts];
    Ints start[kTokens];
    Floats factor[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      met_by_pairs<kThere>(codes + t * x.stride + group * kGroup, even[t], odd[t]);
      start[t] = starts_of<kThere>(starts + t * groups + group);
      factor[t] = spread<kThere>(factors + t * groups + group);
    }
    for (int r = 0; r < kRows; ++r) {
      const uint8_t *from = weights + r * row_stride + group * kPairBytes;
      ask_for<kRows>(from, row_stride);
      Ints parts[kTokens];
      for (int t = 0; t < kTokens; ++t) parts[t] = start[t];
      for (int part = 0; part < kParts; ++part) {
        const Pairs pairs = kThere == kSpan ? load<Pairs>(from + part * kBytes)
                                            : reinterpret_cast<Pairs>(some_bytes(from, kPairBytes));
        const Bytes lower = reinterpret_cast<Bytes>(even_codes(pairs));
        const Bytes upper = reinterpret_cast<Bytes>(odd_codes(pairs));
        for (int t = 0; t < kTokens; ++t) {
          parts[t] = dot_small(parts[t], lower, even[t][part]);
          parts[t] = dot_small(parts[t], upper, odd[t][part]);
        }
      }
      const Floats scale = spread<kThere>(scales + r * groups + group);
      for (int t = 0; t < kTokens; ++t) sums[t][r] += converted(parts[t]) * (factor[t] * scale);
    }
  };
  int group = 0;
  for (; group + kSpan <= groups; group += kSpan) {
    across(group, std::integral_constant<int, kSpan>{});
  }
  if constexpr (kSpan > 1) {
    if (group < groups) across(group, std::integral_constant<int, 1>{});
  }
  for (int t = 0; t < kTokens; ++t) sums_of<kRows>(sums[t], out[t]);
}

}  // namespace
}  // namespace bigcode
