#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "quantizers/openvino/placement.h"

namespace tsquant::testing {

/// Packed references (scripts/pack_placement_goldens.py), by model name.
std::vector<std::string> golden_models();
nlohmann::json load_golden(const std::string& model);

/// The graph of a packed reference. `mismatches` receives nodes whose metatype in our table differs from NNCF's.
openvino::PlacementGraph make_graph(const nlohmann::json& golden, std::vector<std::string>* mismatches = nullptr);

/// The options that a reference setup was made with.
OpenVINOQuantizerOptions make_options(const nlohmann::json& options);

/// One line per quantizer and per unified group, sorted.
std::vector<std::string> describe(const openvino::PlacementGraph& graph, const openvino::Setup& setup);
std::vector<std::string> describe(const nlohmann::json& setup);

/// Builds small graphs by hand.
class GraphMaker {
 public:
  int input(const std::string& name = "x");
  int constant(const std::string& name = "w");
  /// @param function bare name of the operator ("conv2d"); arguments in port order
  int op(const std::string& function, const std::vector<int>& arguments, const std::string& name = "");
  /// conv2d, linear, ...: with a constant weight at port 1
  int weighted(const std::string& function, int x, const std::string& name = "");
  void output(const std::vector<int>& values);

  openvino::PlacementGraph graph;
};

/// Places quantizers with nothing ignored.
openvino::Placement place(const openvino::PlacementGraph& graph, const OpenVINOQuantizerOptions& options = {});

}  // namespace tsquant::testing
