// For every processor.
#include "attention.h"

namespace bigcode {
namespace {

constexpr Kernels kTable = {
    "portable", is_many, kPanel, lay_crosswise, product, quantise, normalise,
    attend, widen, best, measure, weigh,
};

}  // namespace

extern const Kernels *const kPortable = &kTable;

}  // namespace bigcode
