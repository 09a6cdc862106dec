// `torch.ops.tsquant.version()`: which operator library is loaded.
#include <torch/library.h>

#include <string>

namespace {

std::string version() { return TSQUANT_VERSION; }

}  // namespace

TORCH_LIBRARY_FRAGMENT(tsquant, library) { library.def("version() -> str", TORCH_FN(version)); }
