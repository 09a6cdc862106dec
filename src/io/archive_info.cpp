#include "io/archive_info.h"

#include "io/torch_archive.h"

namespace tsquant {

std::string read_extra_file(const std::string& path, const std::string& name) {
  TorchArchive archive(path, model_archive());
  const std::string record = "extra/" + name;
  return archive.has(record) ? archive.read(record) : "";
}

}  // namespace tsquant
