// For 64-bit ARM with its instructions for 8-bit products. Not tested on hardware yet.
#if defined(__aarch64__)
#include "attention.h"

namespace bigcode {
namespace {

constexpr Kernels kTable = {
    "neon", product, quantise, normalise, activate, attend, widen, best, measure, weigh,
};

}  // namespace

extern const Kernels *const kNeon = &kTable;

}  // namespace bigcode
#endif
