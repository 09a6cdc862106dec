#include "io/archive_info.h"

#include <caffe2/serialize/inline_container.h>

#include <filesystem>

#include "tsquant/error.h"

namespace tsquant {

std::string read_extra_file(const std::string& path, const std::string& name) {
  if (!std::filesystem::exists(path)) {
    throw Error(ErrorCode::kModelLoad, "no such file", path, "check the path of the model");
  }
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

}  // namespace tsquant
