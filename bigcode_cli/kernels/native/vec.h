// Vectors as wide as the instruction set that a file is compiled for: what the kernels are made of.
//
// Included by the isa_*.cpp alone, each of which is compiled for another one, so everything is in
// an unnamed namespace. Written in the vector extensions of GCC and Clang, which know adding,
// multiplying and choosing; what they do not know is written per instruction set below.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace bigcode {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));

// x - 0 is x, and compiles to one broadcast; 0 + x is not where x is -0, and does not.
inline Floats all(float x) { return x - Floats{}; }
inline Ints all(int32_t x) { return Ints{} + x; }
inline Ints first_lane(int32_t x) { return Ints{x}; }

template <typename Vector, typename Number>
inline Vector load(const Number *from) {
  Vector vector;
  static_assert(sizeof(Vector) % sizeof(Number) == 0, "whole numbers");
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

inline Floats floats(const float *from) { return load<Floats>(from); }
inline void store(float *to, Floats x) { std::memcpy(to, &x, sizeof x); }

inline void store_some(float *to, Floats x, int count) {
  // Of a constant size no function is called.
  if (count >= kLanes) return store(to, x);
  std::memcpy(to, &x, count * sizeof(float));
}

inline Floats some_floats(const float *from, int count) {
  if (count >= kLanes) return floats(from);
  Floats x = {};
  std::memcpy(&x, from, count * sizeof(float));
  return x;
}

inline Floats bits_as_floats(Ints x) {
  Floats floats;
  std::memcpy(&floats, &x, sizeof floats);
  return floats;
}

inline Floats converted(Ints x) { return __builtin_convertvector(x, Floats); }

// Half-precision numbers and bytes, widened. `Half` and `Brain` keep their bits.
struct Half { uint16_t bits; };
struct Brain { uint16_t bits; };

inline Floats floats(const Brain *from) {
  typedef uint16_t Shorts __attribute__((vector_size(kLanes * 2)));
  return bits_as_floats(__builtin_convertvector(load<Shorts>(from), Ints) << 16);
}

inline Floats floats(const int8_t *from) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from));
  return reinterpret_cast<Floats>(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)));
#elif defined(__AVX2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(from));
  return reinterpret_cast<Floats>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
#else
  typedef int8_t Some __attribute__((vector_size(kLanes)));
  return converted(__builtin_convertvector(load<Some>(from), Ints));
#endif
}

// IEEE 754 binary16 in the integer unit: the exponent is rebased by a multiplication, which also
// takes care of subnormal numbers; infinities and NaNs get the largest exponent back by hand.
inline float half_as_float(uint16_t half) {
  const uint32_t shifted = static_cast<uint32_t>(half & 0x7fffu) << 13;
  float magnitude;
  std::memcpy(&magnitude, &shifted, 4);
  magnitude *= 5.192296858534828e33f;  // 2^112
  uint32_t bits;
  std::memcpy(&bits, &magnitude, 4);
  if ((half & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
  bits |= static_cast<uint32_t>(half & 0x8000u) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

inline Floats floats(const Half *from) {
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(
      _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from))));
#elif defined(__AVX2__)
  return reinterpret_cast<Floats>(
      _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from))));
#elif defined(__aarch64__)
  return vcvt_f32_f16(vld1_f16(reinterpret_cast<const float16_t *>(from)));
#else
  Floats result;
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = half_as_float(from[lane].bits);
  return result;
#endif
}

inline float single(const float *from) { return *from; }
inline float single(const int8_t *from) { return *from; }
inline float single(const Half *from) { return half_as_float(from->bits); }
inline float single(const Brain *from) {
  const uint32_t bits = static_cast<uint32_t>(from->bits) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

// Both halves of a vector, added.
#if defined(__AVX512F__)
inline __m256 halves(Floats x) {
  // Not _mm512_extractf32x8_ps: of its unused lanes GCC 12 warns.
  const __m512 y = reinterpret_cast<__m512>(x);
  const __m512 upper = _mm512_shuffle_f32x4(y, y, 0x4e);
  return _mm512_castps512_ps256(_mm512_add_ps(y, upper));
}
#elif defined(__AVX2__)
inline __m256 halves(Floats x) { return reinterpret_cast<__m256>(x); }
#endif

inline float sum(Floats x) {
#if defined(__AVX2__)
  // In the order of sums_of: a sum must not depend on who is summed beside it.
  const __m256 pairs = _mm256_hadd_ps(halves(x), halves(x));
  const __m256 fours = _mm256_hadd_ps(pairs, pairs);
  return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(fours),
                                  _mm256_extractf128_ps(fours, 1)));
#else
  float half[kLanes];
  store(half, x);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) half[lane] += half[lane + width];
  }
  return half[0];
#endif
}

// The sums of several vectors; of four it takes little more than of one.
template <int kCount>
inline void sums_of(const Floats *x, float *to) {
  int i = 0;
#if defined(__AVX2__)
  for (; i + 4 <= kCount; i += 4) {
    const __m256 ab = _mm256_hadd_ps(halves(x[i]), halves(x[i + 1]));
    const __m256 cd = _mm256_hadd_ps(halves(x[i + 2]), halves(x[i + 3]));
    const __m256 abcd = _mm256_hadd_ps(ab, cd);
    _mm_storeu_ps(to + i, _mm_add_ps(_mm256_castps256_ps128(abcd),
                                     _mm256_extractf128_ps(abcd, 1)));
  }
#endif
  for (; i < kCount; ++i) to[i] = sum(x[i]);
}

// Of what is no number and something else the second.
#if defined(__AVX512F__)
inline Floats larger(Floats a, Floats b) {
  return reinterpret_cast<Floats>(
      _mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
}
inline Floats smaller(Floats a, Floats b) {
  return reinterpret_cast<Floats>(
      _mm512_min_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
}
#else
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
#endif

inline float highest(Floats x) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
  const __m512 y = reinterpret_cast<__m512>(x);
  const __m256 eight =
      _mm512_castps512_ps256(_mm512_max_ps(y, _mm512_shuffle_f32x4(y, y, 0x4e)));
#else
  const __m256 eight = reinterpret_cast<__m256>(x);
#endif
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
#else
  float most = x[0];
  for (int lane = 1; lane < kLanes; ++lane) most = x[lane] > most ? x[lane] : most;
  return most;
#endif
}

// e^x within 2 units in the last place: 2^n e^r with |r| <= ln 2 / 2, e^r by the polynomial of
// Cephes' expf (S. Moshier). Below -87.3 the result is 0, above 88 it is e^88. NaN stays NaN: the
// bounds are the first of each pair, for a comparison with NaN gives the second.
inline Floats exponential(Floats x) {
  const Ints is_zero = x < -87.3f;
  x = smaller(all(88.0f), larger(all(-87.3f), x));
  Floats n = x * 1.44269504088896341f;
  // Adding 1.5 * 2^23 rounds to the nearest whole number.
  n = (n + 12582912.0f) - 12582912.0f;
  const Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Floats p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Floats power = bits_as_floats((__builtin_convertvector(n, Ints) + 127) << 23);
  return is_zero ? Floats{} : p * power;
}

// 1 / x within a unit in the last place; 0 of numbers so large that it would be subnormal.
inline Floats reciprocal(Floats x) {
#if defined(__AVX512F__)
  // Dividing takes longer than an exponential. The guess has 14 bits, Newton's step doubles them.
  const Floats guess = reinterpret_cast<Floats>(_mm512_rcp14_ps(reinterpret_cast<__m512>(x)));
  return guess * (2.0f - x * guess);
#else
  return 1.0f / x;
#endif
}

// Products of four bytes each, added to 32-bit sums: `kBytes` codes times as many numbers.
constexpr int kBytes = kLanes * 4;

typedef int8_t Bytes __attribute__((vector_size(kBytes)));

// int4 codes are stored as what they exceed -8 by: sums of products are by 8 * (sum of numbers) too
// large.
constexpr int kPairShift = 8;

#if defined(__AVX512VNNI__)
// Of unsigned codes and signed numbers, so int8 codes are taken as what they exceed -128 by.
constexpr int kShift = 128;
inline Bytes shifted(Bytes codes) { return codes ^ static_cast<int8_t>(-128); }
inline Ints dot(Ints sums, Bytes codes, Bytes numbers) {
  return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums),
                                                    reinterpret_cast<__m512i>(codes),
                                                    reinterpret_cast<__m512i>(numbers)));
}
// Codes that are not negative, 0 … 15.
inline Ints dot_small(Ints sums, Bytes codes, Bytes numbers) { return dot(sums, codes, numbers); }
#elif defined(__AVX2__) && !defined(__AVX512F__)
constexpr int kShift = 0;
inline Bytes shifted(Bytes codes) { return codes; }
// Pairs of unsigned times signed bytes saturate at 16 bits: of 255 * 127 * 2, so bytes are widened.
inline Ints dot(Ints sums, Bytes codes, Bytes numbers) {
  const __m256i a = reinterpret_cast<__m256i>(codes), b = reinterpret_cast<__m256i>(numbers);
  const __m256i even = _mm256_madd_epi16(_mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8),
                                         _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srai_epi16(a, 8), _mm256_srai_epi16(b, 8));
  return sums + reinterpret_cast<Ints>(_mm256_add_epi32(even, odd));
}
// 15 * 127 * 2 fits.
inline Ints dot_small(Ints sums, Bytes codes, Bytes numbers) {
  const __m256i pairs = _mm256_maddubs_epi16(reinterpret_cast<__m256i>(codes),
                                             reinterpret_cast<__m256i>(numbers));
  return sums + reinterpret_cast<Ints>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#elif defined(__ARM_FEATURE_DOTPROD)
constexpr int kShift = 0;
inline Bytes shifted(Bytes codes) { return codes; }
inline Ints dot(Ints sums, Bytes codes, Bytes numbers) { return vdotq_s32(sums, codes, numbers); }
inline Ints dot_small(Ints sums, Bytes codes, Bytes numbers) { return dot(sums, codes, numbers); }
#else
constexpr int kShift = 0;
inline Bytes shifted(Bytes codes) { return codes; }
inline Ints dot(Ints sums, Bytes codes, Bytes numbers) {
  for (int byte = 0; byte < kBytes; ++byte) sums[byte / 4] += codes[byte] * numbers[byte];
  return sums;
}
inline Ints dot_small(Ints sums, Bytes codes, Bytes numbers) { return dot(sums, codes, numbers); }
#endif

}  // namespace
}  // namespace bigcode
