#include "io/archive_info.h"

#include <caffe2/serialize/inline_container.h>

#include <filesystem>

#include "io/input_path.h"
#include "tsquant/error.h"

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
  if (!std::filesystem::exists(path)) {
    throw Error(ErrorCode::kModelLoad, "no such file", path, "check the path of the model");
  }
  require_readable(path, ErrorCode::kModelLoad);
  try {
    caffe2::serialize::PyTorchStreamReader reader(path);
    const std::string record = "extra/" + name;
    if (!reader.hasRecord(record)) return "";
    const auto data = reader.getRecord(record);
    return {static_cast<const char*>(std::get<0>(data).get()), std::get<1>(data)};
  } catch (const std::exception&) {
    throw Error(ErrorCode::kModelLoad, "the file is damaged, truncated or no zip archive", path);
  }
}

bool is_model_archive(const std::string& path) {
  try {
    caffe2::serialize::PyTorchStreamReader reader(path);
    bool forward = false, computes = false;
    for (const auto& record : reader.getAllRecords()) {
      if (record.rfind("code/", 0) != 0 || std::filesystem::path(record).extension() != ".py") continue;
      const auto data = reader.getRecord(record);
      const std::string code(static_cast<const char*>(std::get<0>(data).get()), std::get<1>(data));
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
