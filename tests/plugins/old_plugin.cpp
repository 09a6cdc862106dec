// A quantizer library of another interface version.
extern "C" int tsquant_quantizer_interface_version() { return 0; }
extern "C" void* tsquant_make_quantizer() { return nullptr; }
