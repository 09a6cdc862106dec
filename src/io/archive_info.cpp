#include "io/archive_info.h"

#include <filesystem>

#include "io/torch_archive.h"

namespace tsquant {

namespace {

/// True when a `def forward(self: ..., x: Tensor) -> ...:` of the code has a tensor among its arguments.
bool forward_takes_tensors(const std::string& code) {
  const std::string definition = "def forward(";
  for (size_t at = 0; (at = code.find(definition, at)) != std::string::npos; at += definition.size()) {
    const size_t end = code.find(") ->", at);
    if (code.substr(at, end - at).find("Tensor") != std::string::npos) return true;
  }
  return false;
}

}  // namespace

std::string read_extra_file(const std::string& path, const std::string& name) {
  TorchArchive archive(path, model_archive());
  const std::string record = "extra/" + name;
  return archive.has(record) ? archive.read(record) : "";
}

bool is_model_archive(const std::string& path) {
  try {
    TorchArchive archive(path, model_archive());
    bool forward = false, computes = false;
    for (const auto& record : archive.names()) {
      if (record.rfind("code/", 0) != 0 || std::filesystem::path(record).extension() != ".py") continue;
      const std::string code = archive.read(record);
      const auto has = [&](const char* text) { return code.find(text) != std::string::npos; };
      forward = forward || forward_takes_tensors(code);
      computes = computes || has("__parameters__ = [\"") || has(" torch.") || has("(torch.") || has("ops.");
    }
    return forward && computes;
  } catch (const std::exception&) {
    return false;  // no archive of PyTorch: whoever reads it says so
  }
}

}  // namespace tsquant
