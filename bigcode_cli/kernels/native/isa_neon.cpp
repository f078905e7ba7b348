// For 64-bit ARM with its instructions for 8-bit products. Tested under emulation only.
#if defined(__aarch64__)
#include "attention.h"

namespace bigcode {
namespace {

constexpr Kernels kTable = {
    "neon", is_many, kPanel, lay_crosswise, product, quantise, normalise,
    attend, widen, best, measure, weigh,
};

}  // namespace

extern const Kernels *const kNeon = &kTable;

}  // namespace bigcode
#endif
