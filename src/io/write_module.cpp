#include "io/write_module.h"

#include <torch/csrc/jit/serialization/export.h>

#include "base/error_text.h"
#include "tsquant/error.h"

namespace tsquant {

void write_module(OutputFile& file, const torch::jit::Module& module,
                  const std::unordered_map<std::string, std::string>& extra_files) {
  // Every write claims success: after a failure LibTorch's writer would throw once more from its destructor.
  const auto append = [&](const void* data, size_t size) {
    file.write(data, size);
    return size;
  };
  try {
    torch::jit::ExportModule(module, append, extra_files);
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kInternal, "LibTorch cannot write the graph: " + short_message(error), file.path(),
                "please report this with the model");
  }
  file.require_written();
}

void save_module(const std::string& path, const std::string& what, const torch::jit::Module& module,
                 const std::unordered_map<std::string, std::string>& extra_files) {
  OutputFile file(path, what);
  write_module(file, module, extra_files);
  file.commit();
}

}  // namespace tsquant
