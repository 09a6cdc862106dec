#include "kernels/isa.h"

#include <c10/util/Exception.h>
#include <hwy/highway.h>

#include <atomic>
#include <cstdlib>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tsquant::kernels {
namespace {

struct IsaRow {
  Isa isa;
  const char* name;
  bool present;  ///< on this processor
};

#if defined(__x86_64__)
/// Compilers older than these instructions do not know their names (Clang 14). CPUID leaf 7, see Intel's manual.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}

bool has_amx_int8() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d >> 24 & 1) == 0 || (d >> 25 & 1) == 0) return false;
  unsigned enabled = 0, high = 0;  // XCR0: whether the system saves tiles (bits 17 and 18)
  __asm__("xgetbv" : "=a"(enabled), "=d"(high) : "c"(0));
  return (enabled >> 17 & 3) == 3;
}
#endif

const std::vector<IsaRow>& rows() {
#if defined(__x86_64__)
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  static const std::vector<IsaRow> table = {
      {Isa::kScalar, "scalar", true},
      {Isa::kSse4, "sse4", static_cast<bool>(__builtin_cpu_supports("sse4.1"))},
      {Isa::kAvx2, "avx2", avx2},
      {Isa::kAvx512, "avx512", avx512},
      {Isa::kAvxVnni, "avxvnni", avx2 && has_avx_vnni()},
      {Isa::kAvx512Vnni, "avx512vnni", avx512 && __builtin_cpu_supports("avx512vnni")},
      {Isa::kAmx, "amx", avx512 && has_amx_int8()},
  };
#else
  static const std::vector<IsaRow> table = {{Isa::kScalar, "scalar", true}};
#endif
  return table;
}

/// The limit of the environment variable; a wrong name is an error, because it would silently test nothing.
int limit_of_environment() {
  static const int limit = [] {
    const char* value = std::getenv("TSQUANT_MAX_ISA");
    if (value == nullptr || *value == '\0') return static_cast<int>(Isa::kAmx);
    std::string names;
    for (const Isa isa :
         {Isa::kScalar, Isa::kSse4, Isa::kAvx2, Isa::kAvx512, Isa::kAvxVnni, Isa::kAvx512Vnni, Isa::kAmx}) {
      if (std::string(value) == isa_name(isa)) return static_cast<int>(isa);
      names += std::string(names.empty() ? "" : ", ") + isa_name(isa);
    }
    TORCH_CHECK(false, "tsquant: TSQUANT_MAX_ISA is \"", value, "\"; it may be ", names);
  }();
  return limit;
}

std::atomic<int> test_limit{-1};

int limit() {
  const int forced = test_limit.load(std::memory_order_relaxed);
  return forced >= 0 ? forced : limit_of_environment();
}

/// Highway picks its targets itself; this keeps it to the same limit.
void limit_highway() {
#if defined(__x86_64__)
  const int most = limit();
  hwy::SetSupportedTargetsForTest(0);
  if (most < static_cast<int>(Isa::kAvx512)) {
    int64_t targets = HWY_EMU128 | HWY_SCALAR;
    if (most >= static_cast<int>(Isa::kSse4)) targets |= HWY_SSSE3 | HWY_SSE4;
    if (most >= static_cast<int>(Isa::kAvx2)) targets |= HWY_AVX2;
    hwy::SetSupportedTargetsForTest(targets & (hwy::SupportedTargets() | HWY_EMU128 | HWY_SCALAR));
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
#endif
}

/// Applies TSQUANT_MAX_ISA when the library is loaded. A wrong name is reported by the first kernel that asks.
const bool highway_limited = [] {
  if (std::getenv("TSQUANT_MAX_ISA") != nullptr) {
    try {
      limit_highway();
    } catch (const std::exception&) {
      return false;
    }
  }
  return true;
}();

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kSse4:
      return "sse4";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvxVnni:
      return "avxvnni";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    default:
      return "amx";
  }
}

bool has_isa(Isa isa) {
  if (static_cast<int>(isa) > limit()) return false;
  for (const IsaRow& row : rows()) {
    if (row.isa == isa) return row.present;
  }
  return false;
}

bool has_isa(Isa isa, int64_t highway_target) {
  return has_isa(isa) && (hwy::SupportedTargets() & highway_target) != 0;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const IsaRow& row : rows()) {
    if (has_isa(row.isa)) isas.push_back(row.isa);
  }
  return isas;
}

void limit_isa(c10::optional<Isa> isa) {
  test_limit = isa ? static_cast<int>(*isa) : -1;
  limit_highway();
}

}  // namespace tsquant::kernels
