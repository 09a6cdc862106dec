// A library whose factory gives nothing.
#include <tsquant/load_quantizer.h>

extern "C" __attribute__((visibility("default"))) int tsquant_quantizer_interface_version() {
  return tsquant::kQuantizerInterfaceVersion;
}
extern "C" __attribute__((visibility("default"))) tsquant::Quantizer* tsquant_make_quantizer() { return nullptr; }
