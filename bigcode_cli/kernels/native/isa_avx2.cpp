// For processors with AVX2, FMA and F16C.
#if defined(__AVX2__)
#include "attention.h"

namespace bigcode {
namespace {

constexpr Kernels kTable = {
    "avx2", is_many, kPanel, lay_crosswise, product, quantise, normalise,
    attend, widen, best, measure, weigh,
};

}  // namespace

extern const Kernels *const kAvx2 = &kTable;

}  // namespace bigcode
#endif
