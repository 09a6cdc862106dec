#pragma once

#include <memory>
#include <string>

#include "tsquant/quantizer.h"

namespace tsquant {

/// Version of the interface between this library and quantizers in shared libraries. It changes when Quantizer,
/// Annotations or GraphView change their layout; a library built for another version is refused.
constexpr int kQuantizerInterfaceVersion = 4;

/// Opens a shared library and makes the quantizer that it registers with TSQUANT_REGISTER_QUANTIZER. The library stays
/// open until the process ends, because models may hold code and types from it.
/// @param path file name as dlopen takes it
/// @throws Error kInvalidArgument: the file cannot be opened, registers no quantizer, was built for another version of
///         this interface, or its constructor fails (throws, or its factory returns null)
std::unique_ptr<Quantizer> load_quantizer(const std::string& path);

}  // namespace tsquant

/// Makes `Class`, a default-constructible Quantizer, the one that load_quantizer returns for the shared library in
/// which this stands. Use it once per library, outside of namespaces.
#define TSQUANT_REGISTER_QUANTIZER(Class)                                                            \
  extern "C" __attribute__((visibility("default"))) int tsquant_quantizer_interface_version() {      \
    return ::tsquant::kQuantizerInterfaceVersion;                                                    \
  }                                                                                                  \
  extern "C" __attribute__((visibility("default"))) ::tsquant::Quantizer* tsquant_make_quantizer() { \
    return new Class();                                                                              \
  }                                                                                                  \
  static_assert(true, "") /* takes the semicolon */
