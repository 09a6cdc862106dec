#pragma once

namespace tsquant::kernels {

/// Whether the processor multiplies unsigned by signed bytes into 32-bit sums without 16-bit saturation (AVX512-VNNI).
inline bool has_vnni() {
#if defined(__x86_64__)
  static const bool value = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return value;
#else
  return false;
#endif
}

}  // namespace tsquant::kernels
