// Which of the tables this processor runs.

#include <cstring>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "kernels.h"

namespace bigcode {
namespace {

bool runs(const Kernels *table) {
#if defined(__x86_64__)
  if (table == kAvx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
  }
  if (table == kAvx2) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
  }
#elif defined(__aarch64__) && defined(__linux__)
  if (table == kNeon) return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
  return table != nullptr;
}

}  // namespace

const Kernels *kernels(const char *name) {
  // Best first.
  const Kernels *const tables[] = {
#if defined(__x86_64__)
      kAvx512, kAvx2,
#elif defined(__aarch64__)
      kNeon,
#endif
      kPortable,
  };
  for (const Kernels *table : tables) {
    if ((name == nullptr || std::strcmp(table->name, name) == 0) && runs(table)) return table;
  }
  return nullptr;
}

}  // namespace bigcode
