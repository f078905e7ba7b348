// For every processor.
#include "attention.h"

namespace bigcode {
namespace {

constexpr Kernels kTable = {
    "portable", product, quantise, normalise, finish, attend, widen, best, measure, weigh,
};

}  // namespace

extern const Kernels *const kPortable = &kTable;

}  // namespace bigcode
