// Placement on real TorchScript traces against NNCF's, edge by edge: traces in tests/data/traces, references in
// tests/data/placement (scripts/pack_placement_goldens.py).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "passes/rewrite_runner.h"
#include "support/support.h"
#include "tsquant/tsquant.h"

namespace tsquant::testing::placement_test {
namespace {

using nlohmann::json;

using Place = std::pair<std::string, int>;  ///< consumer, input port

/// What one tensor argument sees, and which arguments share their parameters.
struct EdgeTable {
  std::map<Place, std::string> config;
  std::map<Place, std::string> owner;

  /// Groups of places with one owner, of the places in `keep` only.
  std::set<std::set<Place>> shared(const std::set<Place>& keep) const {
    std::map<std::string, std::set<Place>> classes;
    for (const auto& [place, name] : owner) {
      if (keep.count(place)) classes[name].insert(place);
    }
    std::set<std::set<Place>> result;
    for (const auto& entry : classes) result.insert(entry.second);
    return result;
  }
};

std::string config_text(const std::string& kind, const json& bits, const json& mode, const json& sign,
                        const json& per_channel, const json& narrow) {
  return fmt::format("{} {} {} {} {} {}", kind, bits.dump(), mode.dump(), sign.dump(), per_channel.dump(),
                     narrow.dump());
}

/// The argument of a weight: the second one when it is a constant, else the first constant matrix.
int weight_port(const json& golden, size_t node) {
  std::map<int, size_t> constants;
  for (const auto& edge : golden["edges"]) {
    if (edge[1] == node && golden["nodes"][edge[0].get<size_t>()][1] == "get_attr") constants[edge[3]] = edge[0];
  }
  if (constants.count(1)) return 1;
  for (const auto& [port, source] : constants) {
    const auto& shape = golden["nodes"][source][3];
    if (!shape.is_null() && shape.size() > 1) return port;
  }
  return constants.empty() ? -1 : constants.begin()->first;
}

EdgeTable reference_edges(const json& golden, const json& setup) {
  std::map<std::string, size_t> ids;
  for (size_t i = 0; i < golden["nodes"].size(); ++i) ids[golden["nodes"][i][0]] = i;
  std::map<size_t, std::vector<Place>> consumers;
  for (const auto& edge : golden["edges"]) {
    consumers[edge[0]].push_back({golden["nodes"][edge[1].get<size_t>()][0], edge[3]});
  }
  std::map<int, size_t> group;
  for (size_t i = 0; i < setup["groups"].size(); ++i) {
    for (const auto& id : setup["groups"][i]) group[id] = i;
  }
  EdgeTable table;
  for (const auto& point : setup["points"]) {
    const std::string node = point[2], kind = point[1];
    std::vector<Place> places;
    if (kind == "weight") {
      places = {{node, weight_port(golden, ids[node])}};
    } else if (point[3].is_null()) {
      places = consumers[ids[node]];
    } else {
      places = {{node, point[3]}};
    }
    const auto& c = point[4];
    const auto found = group.find(point[0]);
    for (const auto& place : places) {
      if (place.second < 0) continue;
      table.config[place] = config_text(kind, c[0], c[1], c[2], c[3], c[4]);
      table.owner[place] = found == group.end() ? "q" + point[0].dump() : "g" + std::to_string(found->second);
    }
  }
  return table;
}

EdgeTable candidate_edges(const std::string& text) {
  const json candidate = json::parse(text);
  std::map<std::string, std::string> alias;
  for (const auto& node : candidate["nodes"]) alias[node["name"]] = node["fx_name"];
  std::map<int64_t, json> quantizers;
  for (const auto& quantizer : candidate["quantizers"]) quantizers[quantizer["id"]] = quantizer;
  EdgeTable table;
  for (const auto& edge : candidate["edges"]) {
    const json& q = quantizers[edge["quantizer"]];
    const Place place = {alias[edge["consumer"]], edge["input_port"]};
    table.config[place] =
        config_text(q["kind"], q["num_bits"], q["mode"], q["signedness_to_force"], q["per_channel"], q["narrow_range"]);
    table.owner[place] =
        q["unified_scale_group"].is_null() ? "q" + q["id"].dump() : "g" + q["unified_scale_group"].dump();
  }
  return table;
}

std::vector<std::string> differences(const EdgeTable& expected, const EdgeTable& actual) {
  std::vector<std::string> lines;
  std::set<Place> both;
  for (const auto& [place, config] : expected.config) {
    const auto found = actual.config.find(place);
    if (found == actual.config.end()) {
      lines.push_back(fmt::format("missing {}:{} {}", place.first, place.second, config));
      continue;
    }
    both.insert(place);
    if (found->second != config) {
      lines.push_back(fmt::format("config {}:{} {} instead of {}", place.first, place.second, found->second, config));
    }
  }
  for (const auto& [place, config] : actual.config) {
    if (!expected.config.count(place))
      lines.push_back(fmt::format("extra {}:{} {}", place.first, place.second, config));
  }
  const auto wanted = expected.shared(both), found = actual.shared(both);
  for (const auto& places : wanted) {
    if (!found.count(places)) lines.push_back("not shared as in the reference: " + places.begin()->first);
  }
  lines.resize(std::min<size_t>(lines.size(), 12));
  return lines;
}

OpenVINOQuantizerOptions options_of(const json& options) {
  OpenVINOQuantizerOptions result;
  if (options.contains("preset") && options["preset"] == "mixed") result.preset = QuantizationPreset::kMixed;
  if (options.contains("model_type")) result.model_type = ModelType::kTransformer;
  result.quantize_outputs = options.contains("quantize_outputs");
  if (options.contains("quantizer_propagation_rule")) {
    result.quantizer_propagation_rule = QuantizerPropagationRule::kDoNotMergeBranches;
  }
  return result;
}

std::vector<std::string> traced_models() {
  std::vector<std::string> models;
  for (const auto& entry : std::filesystem::directory_iterator(data_file("placement"))) {
    const std::string model = entry.path().stem().string();
    if (std::filesystem::exists(data_file("traces/" + model + ".pt"))) models.push_back(model);
  }
  std::sort(models.begin(), models.end());
  return models;
}

class TracePlacement : public ::testing::TestWithParam<std::string> {};

TEST_P(TracePlacement, equals_that_of_nncf_edge_by_edge) {
  std::ifstream file(data_file("placement/" + GetParam() + ".json"));
  const json golden = json::parse(file);
  Model model = Model::load(data_file("traces/" + GetParam() + ".pt"));
  run_passes(model);
  const GraphView view(model);
  for (const auto& [variant, setup] : golden["setups"].items()) {
    const OpenVINOQuantizer quantizer(options_of(setup["options"]));
    const Annotations annotations = quantizer.annotate(view);
    quantizer.validate(view, annotations);
    const auto lines = differences(reference_edges(golden, setup), candidate_edges(to_json(annotations, view)));
    EXPECT_TRUE(lines.empty()) << variant << "\n" << fmt::format("{}", fmt::join(lines, "\n"));
  }
}

/// The references have the first and the last rule. Where all branches ask for the same configuration, "merge if all
/// are the same" is "merge all"; where they do not, the quantizers stay on their branches. With potential
/// requantization, no more quantizers stand than without merging and no fewer than with all merged.
TEST_P(TracePlacement, rules_of_propagation_between_those_of_the_references) {
  using Rule = QuantizerPropagationRule;
  Model model = Model::load(data_file("traces/" + GetParam() + ".pt"));
  run_passes(model);
  const GraphView view(model);
  const auto annotated = [&](Rule rule) {
    OpenVINOQuantizerOptions options;
    options.quantizer_propagation_rule = rule;
    const OpenVINOQuantizer quantizer(options);
    Annotations annotations = quantizer.annotate(view);
    quantizer.validate(view, annotations);
    return annotations;
  };
  const auto unmerged = annotated(Rule::kDoNotMergeBranches), merged = annotated(Rule::kMergeAllInOne);
  const auto same = annotated(Rule::kMergeIfAllBranchesSame);
  const bool differ = std::any_of(same.points.begin(), same.points.end(), [](const QuantizationPoint& point) {
    return point.reason.find("the branches allow no common configuration") != std::string::npos;
  });
  if (differ) {
    EXPECT_GT(same.points.size(), merged.points.size());
  } else {
    EXPECT_EQ(to_json(same, view), to_json(merged, view));
  }
  const auto between = annotated(Rule::kMergeWithPotentialRequantization);
  EXPECT_LE(between.points.size(), unmerged.points.size());
  EXPECT_GE(between.points.size(), merged.points.size());
}

INSTANTIATE_TEST_SUITE_P(Traces, TracePlacement, ::testing::ValuesIn(traced_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace tsquant::testing::placement_test
