// For processors with AVX-512 and its instructions for 8-bit products.
#if defined(__AVX512F__)
#include "attention.h"

namespace bigcode {
namespace {

constexpr Kernels kTable = {
    "avx512", is_many, kPanel, lay_crosswise, product, quantise, normalise,
    attend, widen, best, measure, weigh,
};

}  // namespace

extern const Kernels *const kAvx512 = &kTable;

}  // namespace bigcode
#endif
