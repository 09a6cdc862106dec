#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "io/named_tensors.h"
#include "support/support.h"
#include "tsquant/observer_module.h"

namespace tsquant::testing {

/// Statistics, parameters and gradients that torch.ao 1.13.1 computed on fixed streams of batches.
class TorchAoGoldens {
 public:
  explicit TorchAoGoldens(const std::string& folder) {
    std::ifstream file(folder + "/observers.json");
    json = nlohmann::json::parse(file);
    for (const auto& entry : read_numpy_file(folder + "/observers.npz")) arrays_[entry.name] = entry.tensor;
  }

  const at::Tensor& array(const std::string& name) const { return arrays_.at(name); }
  std::vector<at::Tensor> stream(const std::string& name) const {
    std::vector<at::Tensor> batches;
    for (size_t i = 0; i < json.at("streams").at(name).get<size_t>(); ++i) {
      batches.push_back(array(name + "." + std::to_string(i)));
    }
    return batches;
  }

  nlohmann::json json;

 private:
  std::map<std::string, at::Tensor> arrays_;
};

/// The part that the tests carry.
inline std::string carried_torch_ao_goldens() { return data_file("observers"); }
/// All of them: beside $TSQUANT_GOLDENS (goldens/nncf), or ../shared/goldens/torchao; "" when they are not there.
inline std::string complete_torch_ao_goldens() {
  const char* given = std::getenv("TSQUANT_GOLDENS");
  const auto folder = given ? std::filesystem::path(given).parent_path() / "torchao"
                            : std::filesystem::path(TSQUANT_SOURCE_DIR "/../shared/goldens/torchao");
  return std::filesystem::exists(folder / "observers.json") ? folder.string() : "";
}

/// Numbers of a list, "inf" and "nan" among them.
inline at::Tensor numbers(const nlohmann::json& list) {
  std::vector<double> values;
  for (const auto& value : list)
    values.push_back(value.is_string() ? std::stod(value.get<std::string>()) : value.get<double>());
  return at::tensor(values, at::kDouble);
}

inline at::Tensor run(torch::jit::Module& module, const at::Tensor& x) { return module.forward({x}).toTensor(); }

}  // namespace tsquant::testing
