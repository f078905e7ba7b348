// Whether stored numbers are numbers: nothing in a model's folder is trusted.

#include <cstdint>
#include <cstring>

namespace {

// An exponent of ones alone is NaN or infinity. No branch within: the compiler makes vectors of it.
template <typename Word>
bool finite(const unsigned char *from, int64_t count, Word exponent) {
  constexpr int64_t kBlock = 4096;
  for (int64_t at = 0; at < count; at += kBlock) {
    const int64_t end = at + kBlock < count ? at + kBlock : count;
    unsigned found = 0;
    for (int64_t i = at; i < end; ++i) {
      Word word;
      std::memcpy(&word, from + i * static_cast<int64_t>(sizeof(Word)), sizeof(Word));
      found |= (word & exponent) == exponent;
    }
    if (found != 0) return false;
  }
  return true;
}

}  // namespace

// 1 if all `count` numbers are finite, else 0. `format` as of a matrix; codes always are.
extern "C" int32_t bigcode_finite(int32_t format, const void *numbers, int64_t count) {
  const auto *from = static_cast<const unsigned char *>(numbers);
  switch (format) {
    case 0: return finite<uint32_t>(from, count, 0x7f800000u);
    case 1: return finite<uint16_t>(from, count, 0x7c00u);
    case 2: return finite<uint16_t>(from, count, 0x7f80u);
    default: return 1;
  }
}
