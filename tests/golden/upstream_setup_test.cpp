// The setups that NNCF's executorch tests keep for OpenVINOQuantizer, X86InductorQuantizer and XNNPACKQuantizer, on
// traces of the same models (scripts/pack_upstream_setups.py). A setup names, for every quantizer, the operators that
// read the tensor, and its configuration; unified scale groups name quantizers by their number.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "passes/rewrite_runner.h"
#include "quantizers/transform_model.h"
#include "support/support.h"
#include "tsquant/tsquant.h"
#include "tsquant/x86_inductor_quantizer.h"
#include "tsquant/xnnpack_quantizer.h"

namespace tsquant::testing {
namespace {

using nlohmann::json;

std::unique_ptr<Quantizer> make_quantizer(const std::string& name, const std::string& model) {
  if (name == "X86InductorQuantizer") {
    auto quantizer = std::make_unique<X86InductorQuantizer>();
    quantizer->set_global(get_default_x86_inductor_quantization_config());
    return quantizer;
  }
  if (name == "XNNPACKQuantizer") {
    auto quantizer = std::make_unique<XNNPACKQuantizer>();
    quantizer->set_global(get_symmetric_quantization_config());
    return quantizer;
  }
  static const std::set<std::string> transformers = {"vit_b_16", "swin_v2_t", "synthetic_transformer",
                                                     "yolo11n_sdpa_block"};
  OpenVINOQuantizerOptions options;
  if (transformers.count(model)) options.model_type = ModelType::kTransformer;
  return std::make_unique<OpenVINOQuantizer>(options);
}

Sample make_sample(const json& inputs) {
  Sample sample;
  for (const auto& input : inputs) {
    const bool floating = input[1] == "float32";
    sample.args.emplace_back(at::ones(input[0].get<std::vector<int64_t>>(), floating ? at::kFloat : at::kInt));
  }
  return sample;
}

/// NNCF's view of a config of torch.ao: the codes themselves are not part of it.
std::string config_text(const std::string& kind, const json& config) {
  return fmt::format("{} {} {} per_channel {} narrow {} signed {} {}", kind, config.at("num_bits").dump(),
                     config.at("mode").get<std::string>(), config.at("per_channel").dump(),
                     config.at("narrow_range").dump(), config.value("signedness_to_force", json()).dump(),
                     config.value("dest_dtype", ""));
}

std::string config_text(const QuantizationPoint& point) {
  const QuantizationSpec& spec = point.spec;
  json config{{"num_bits", format_info(spec.format).bits},
              {"mode", spec.mode == QuantizationScheme::kSymmetric ? "symmetric" : "asymmetric"},
              {"per_channel", spec.per_channel},
              {"narrow_range", spec.narrow_range}};
  if (spec.signedness_to_force) config["signedness_to_force"] = *spec.signedness_to_force;
  if (spec.quant_min) {
    config["narrow_range"] = *spec.quant_max - *spec.quant_min == 254;
    config["signedness_to_force"] = false;
    config["dest_dtype"] = spec.dtype == c10::kChar ? "INT8" : "UINT8";
  }
  return config_text(point.kind == PointKind::kWeight ? "weight" : "activation", config);
}

/// Operators that a quantizer serves. NNCF's own solver records those that asked for it, the adapter of torch.ao's
/// quantizers all that read the tensor.
std::vector<std::string> operators_of(const GraphView& view, const QuantizationPoint& point) {
  std::vector<std::string> names;
  if (!point.spec.quant_min) {
    for (const auto& name : point.quantized_nodes) names.push_back(view.find(name)->fx_name);
  } else if (point.input_port) {
    names.push_back(view.find(point.node)->fx_name);
  } else {
    for (const int64_t edge : view.find(point.node)->out_edges) {
      names.push_back(view.node(view.edge(edge).to).fx_name);
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

/// Traces hold a slice for every dimension of a subscript, torch.export only for those that take a part, so the numbers
/// of slices differ.
std::string point_text(std::vector<std::string> operators, const std::string& config) {
  for (auto& name : operators) {
    if (name.rfind("slice_", 0) == 0) name = "slice";
  }
  return fmt::format("{}: {}", fmt::join(operators, ", "), config);
}

struct QuantizerSetup {
  std::set<std::string> points;
  std::multiset<size_t> group_sizes;
  std::multiset<std::set<std::string>> groups;
};

QuantizerSetup reference_setup(const json& reference) {
  QuantizerSetup setup;
  std::vector<std::string> texts;
  for (const auto& point : reference["points"]) {
    texts.push_back(point_text(point[1], config_text(point[0], reference["configs"].at(point[2].get<size_t>()))));
  }
  setup.points.insert(texts.begin(), texts.end());
  for (const auto& group : reference["groups"]) {
    if (group.size() > 1) setup.group_sizes.insert(group.size());
    std::set<std::string> members;
    for (const size_t id : group) members.insert(id < texts.size() ? texts[id] : "beyond the last point");
    setup.groups.insert(std::move(members));
  }
  return setup;
}

QuantizerSetup our_setup(const GraphView& view, const Annotations& annotations) {
  QuantizerSetup setup;
  std::map<int64_t, std::string> texts;
  for (const auto& point : annotations.points) {
    texts[point.id] = point_text(operators_of(view, point), config_text(point));
    setup.points.insert(texts[point.id]);
  }
  for (const auto& group : annotations.unified_scale_groups) {
    setup.group_sizes.insert(group.size());
    std::set<std::string> members;
    for (const int64_t id : group) members.insert(texts.at(id));
    setup.groups.insert(std::move(members));
  }
  return setup;
}

std::string missing_in(const std::set<std::string>& all, const std::set<std::string>& some) {
  std::vector<std::string> lines;
  std::set_difference(all.begin(), all.end(), some.begin(), some.end(), std::back_inserter(lines));
  return fmt::format("{}", fmt::join(lines, "\n"));
}

class UpstreamSetup : public ::testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(UpstreamSetup, has_the_same_quantizers_and_groups) {
  const auto& [quantizer_name, model_name] = GetParam();
  std::ifstream file(data_file("upstream_setups/" + quantizer_name + "/" + model_name + ".json"));
  const json reference = json::parse(file);
  Model model = Model::load(data_file("traces/" + model_name + ".pt"));
  const auto quantizer = make_quantizer(quantizer_name, model_name);
  RewriteRunner runner(model);
  runner.run_passes(RewritePhase::kFloat);
  transform_model(runner, *quantizer);
  const GraphView view(model, record_shapes(model, make_sample(reference["inputs"])));
  const Annotations annotations = quantizer->annotate(view);
  quantizer->validate(view, annotations);

  const QuantizerSetup expected = reference_setup(reference), actual = our_setup(view, annotations);
  EXPECT_FALSE(expected.points.empty());
  EXPECT_EQ(missing_in(expected.points, actual.points), "");
  EXPECT_EQ(missing_in(actual.points, expected.points), "");
  EXPECT_EQ(actual.group_sizes, expected.group_sizes);
  // Quantizers of one config that serve the same operators are one entry of the reference, so that the numbers in its
  // groups do not count entries. Those of NNCF's own solver never do.
  if (annotations.points.size() == actual.points.size() && quantizer_name != "OpenVINOQuantizer") {
    EXPECT_EQ(actual.groups, expected.groups);
  }
}

std::vector<std::pair<std::string, std::string>> references() {
  std::vector<std::pair<std::string, std::string>> found;
  for (const auto& folder : std::filesystem::directory_iterator(data_file("upstream_setups"))) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      found.emplace_back(folder.path().filename().string(), entry.path().stem().string());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

INSTANTIATE_TEST_SUITE_P(References, UpstreamSetup, ::testing::ValuesIn(references()),
                         [](const auto& info) { return info.param.first + "_" + info.param.second; });

}  // namespace
}  // namespace tsquant::testing
