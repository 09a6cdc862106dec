#include "tsquant/load_quantizer.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "tsquant/error.h"

namespace tsquant {

namespace {

[[noreturn]] void refuse(const std::string& message, const std::string& path, const std::string& advice) {
  throw Error(ErrorCode::kInvalidArgument, message, path, advice);
}

template <typename Function>
Function* find(void* library, const char* name, const std::string& path) {
  auto* found = reinterpret_cast<Function*>(dlsym(library, name));
  if (found) return found;
  refuse(fmt::format("the library registers no quantizer: it has no function {}", name), path,
         "write TSQUANT_REGISTER_QUANTIZER(YourClass); in one of its source files");
}

}  // namespace

std::unique_ptr<Quantizer> load_quantizer(const std::string& path) {
  // Never closed: the returned object's code lives in it.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) refuse(fmt::format("the library cannot be opened: {}", dlerror()), path, "give the path of a .so file");
  const int version = find<int()>(library, "tsquant_quantizer_interface_version", path)();
  if (version != kQuantizerInterfaceVersion) {
    refuse(fmt::format("the library was built for version {} of the quantizer interface, this is version {}", version,
                       kQuantizerInterfaceVersion),
           path, "build it again with the headers of this version");
  }
  auto* make = find<Quantizer*()>(library, "tsquant_make_quantizer", path);
  std::unique_ptr<Quantizer> quantizer;
  try {
    quantizer.reset(make());
  } catch (const std::exception& error) {
    refuse(fmt::format("the quantizer's constructor failed: {}", error.what()), path,
           "repair the library; it may need a file or setting that is not there");
  }
  if (!quantizer) {
    refuse("the library's factory returned no quantizer", path, "let tsquant_make_quantizer return a new object");
  }
  return quantizer;
}

}  // namespace tsquant
