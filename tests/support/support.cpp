#include "support/support.h"

#include <cstdlib>
#include <filesystem>

namespace tsquant::testing {

torch::jit::Module define(const std::string& source, const std::vector<std::pair<std::string, at::Tensor>>& params,
                          const std::vector<std::pair<std::string, torch::jit::Module>>& submodules) {
  static int counter = 0;
  torch::jit::Module module("__torch__.TestModule" + std::to_string(counter++));
  module.register_attribute("training", c10::BoolType::get(), false);
  for (const auto& [name, tensor] : params) module.register_parameter(name, tensor, false);
  for (const auto& [name, child] : submodules) module.register_module(name, child);
  module.define(source);
  return module;
}

std::string kit_dir() {
  const char* set = std::getenv("TSQUANT_KIT");
  const std::string dir = set ? set : std::string(TSQUANT_SOURCE_DIR) + "/../shared/kit";
  return std::filesystem::exists(dir + "/models") ? dir : "";
}

std::string data_file(const std::string& name) { return std::string(TSQUANT_TEST_DATA) + "/" + name; }

std::string temp_dir() {
  std::string pattern = std::filesystem::temp_directory_path() / "tsquant_test_XXXXXX";
  return mkdtemp(pattern.data());
}

}  // namespace tsquant::testing
