#pragma once

#include <c10/util/Optional.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tsquant::kernels {

/// Instruction sets that kernels are written for, worst first. A processor may lack one in the middle of the list:
/// Alder Lake has AVX-VNNI and no AVX512, Skylake-SP the reverse.
enum class Isa { kScalar, kSse4, kAvx2, kAvx512, kAvxVnni, kAvx512Vnni, kAmx };

const char* isa_name(Isa isa);

/// Whether kernels for `isa` may run now: the processor has it, and neither the environment variable TSQUANT_MAX_ISA
/// (one of the names, read once) nor limit_isa() forbids it.
bool has_isa(Isa isa);

/// has_isa() for code that Highway compiled for one of its targets (HWY_AVX2 ...): what Highway itself requires of a
/// target is more.
bool has_isa(Isa isa, int64_t highway_target);
template <int64_t highway_target, Isa isa>
bool supports_target() {
  return has_isa(isa, highway_target);
}

/// All that has_isa(), worst first; always holds kScalar.
std::vector<Isa> available_isas();

/// For tests: forbids everything above `isa`, also over TSQUANT_MAX_ISA; nullopt ends it. Process-wide. Kernels that
/// are prepared for one input keep what they chose; everything that is prepared later obeys.
void limit_isa(c10::optional<Isa> isa);

}  // namespace tsquant::kernels
