#pragma once

#include <cstdlib>
#include <filesystem>
#include <set>
#include <vector>

#include "compression/layer_samples.h"
#include "compression_golden.h"

namespace tsquant::testing {

/// A layer that NNCF's algorithms were run on.
struct GoldenLayer {
  at::Tensor weight;
  std::vector<at::Tensor> inputs;
  LayerSamples samples;

  explicit GoldenLayer(const std::string& file) {
    const auto module = torch::jit::load(file);
    weight = module.attr("x0").toTensor();
    for (int i = 1; module.hasattr("x" + std::to_string(i)); ++i) {
      inputs.push_back(module.attr("x" + std::to_string(i)).toTensor());
      samples.add(inputs.back());
    }
  }

  at::Tensor rows() const {
    std::vector<at::Tensor> parts;
    for (const auto& x : inputs) parts.push_back(x.reshape({-1, x.size(-1)}));
    return at::cat(parts);
  }
};

/// Results of NNCF 3.2 (commit ef8e1dbd8): those that the tests carry, or all of the shared folder.
class AlgorithmsGolden {
 public:
  AlgorithmsGolden(const std::string& index, const std::string& arrays) {
    const auto folder = std::filesystem::path(index).parent_path();
    std::ifstream file(index);
    const auto json = nlohmann::json::parse(file);
    for (const auto& [name, layer] : json["layers"].items()) {
      const std::string archive = layer["pt"];
      layers_.emplace(name, GoldenLayer((folder / archive.substr(0, archive.find(' '))).string()));
    }
    results_ = json["results"];
    for (const auto& entry : read_numpy_file(arrays)) arrays_[entry.name] = entry.tensor;
  }

  /// The cases of algorithms whose names begin with this, those that NNCF refused left out.
  std::vector<nlohmann::json> cases(const std::string& algorithm) const {
    std::vector<nlohmann::json> found;
    for (const auto& result : results_) {
      const bool has_numbers = result.contains("arrays") || algorithm == "sensitivity";
      if (result["algo"].get<std::string>().rfind(algorithm, 0) == 0 && has_numbers) found.push_back(result);
    }
    return found;
  }

  const GoldenLayer& layer(const nlohmann::json& result) const { return layers_.at(result["layer"]); }
  at::Tensor array(const nlohmann::json& result, const std::string& name) const {
    return arrays_.at(result["arrays"][name]["npz"]);
  }

 private:
  std::map<std::string, GoldenLayer> layers_;
  nlohmann::json results_;
  std::map<std::string, at::Tensor> arrays_;
};

/// What the tests carry, and all of it where the shared folder is (TSQUANT_GOLDENS).
inline const std::vector<AlgorithmsGolden>& algorithms_goldens() {
  static const std::vector<AlgorithmsGolden> kGoldens = [] {
    std::vector<AlgorithmsGolden> goldens;
    goldens.emplace_back(data_file("compression/algorithms.json"), data_file("compression/algorithms.npz"));
    const char* given = std::getenv("TSQUANT_GOLDENS");
    const std::string folder = (given ? std::string(given) : TSQUANT_SOURCE_DIR "/../shared/goldens/nncf") + "/wc";
    if (std::filesystem::exists(folder)) goldens.emplace_back(folder + "/index_algos.json", folder + "/algos.npz");
    return goldens;
  }();
  return kGoldens;
}

/// The largest difference, relative to the largest magnitude of the second.
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  const auto wanted = b.to(at::kDouble).flatten();
  return ((a.to(at::kDouble).flatten() - wanted).abs().max() / wanted.abs().max()).item<double>();
}

}  // namespace tsquant::testing
