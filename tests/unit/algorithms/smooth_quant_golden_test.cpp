// Scales, places and parameters of smoothed models against NNCF's quantize_pt2e and quantize.
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "algorithms/smooth_quant.h"
#include "passes/rewrite_runner.h"
#include "support/support.h"

namespace tsquant::testing::smooth_quant_golden_test {
namespace {

using nlohmann::json;

std::string file_of(const std::string& model, const std::string& kind) {
  const std::string own = data_file("algorithms/" + model + "." + kind + ".pt");
  return std::filesystem::exists(own) ? own : data_file("numerics/" + model + "." + kind + ".pt");
}

Dataset inputs_of(const std::string& model) {
  const auto module = torch::jit::load(file_of(model, "inputs"));
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 10; ++i) tensors.push_back(module.attr("x" + std::to_string(i)).toTensor());
  return Dataset::from_tensors(tensors);
}

json goldens() {
  std::ifstream file(data_file("algorithms/smooth_quant.json"));
  return json::parse(file);
}

/// Layer, by stable name and alias -> scale.
std::map<std::string, at::Tensor> scales_of(const SmoothQuantResult& result, const GraphView& view) {
  std::map<std::string, at::Tensor> scales;
  for (const auto& group : result.groups) {
    for (const auto& layer : group.layers) {
      scales[layer] = group.scale;
      scales[view.find(layer)->fx_name] = group.scale;
    }
  }
  return scales;
}

void expect_close(const at::Tensor& actual, const json& expected, double tolerance, const std::string& what) {
  const auto wanted = torch::tensor(expected.get<std::vector<double>>()).to(at::kDouble);
  ASSERT_EQ(actual.numel(), wanted.numel()) << what;
  EXPECT_TRUE(at::allclose(actual.to(at::kDouble).flatten(), wanted, tolerance, 0)) << what << actual << wanted;
}

using Edge = std::pair<std::string, int64_t>;

/// Every quantized edge, by the consumer's alias and tensor argument.
std::map<Edge, int64_t> quantized_edges(const Annotations& annotations, const GraphView& view) {
  std::map<Edge, int64_t> edges;
  for (const auto& point : annotations.points) {
    const ViewNode& node = *view.find(point.node);
    if (point.input_port) {
      edges[{node.fx_name, *point.input_port}] = point.id;
      continue;
    }
    for (int64_t id : node.out_edges) edges[{view.node(view.edge(id).to).fx_name, view.edge(id).input_port}] = point.id;
  }
  return edges;
}

void compare_points(const json& record, const Model& model, const Dataset& data, const std::string& what) {
  const GraphView view(model, record_shapes(model, data.get(0)));
  OpenVINOQuantizerOptions options;
  if (record["transformer"]) options.model_type = ModelType::kTransformer;
  const Annotations annotations = OpenVINOQuantizer(options).annotate(view);
  const auto qparams = compute_qparams(annotations, calibrate(model, view, annotations, data, {}));
  auto edges = quantized_edges(annotations, view);
  for (const auto& point : record["points"]) {
    for (const auto& user : point["users"]) {
      const Edge edge{user[0], user[1]};
      const std::string place = what + " " + edge.first + " input " + std::to_string(edge.second);
      ASSERT_TRUE(edges.count(edge)) << place << " is not quantized";
      const QParams& q = qparams.at(edges[edge]);
      expect_close(q.scale, point["scale"], 1e-6, place);
      EXPECT_TRUE(at::equal(q.zero_point, torch::tensor(point["zero_point"].get<std::vector<int64_t>>()))) << place;
      EXPECT_EQ(q.dtype, point["dtype"] == "torch.int8" ? c10::kChar : c10::kByte) << place;
      edges.erase(edge);
    }
  }
  for (const auto& [edge, id] : edges) ADD_FAILURE() << what << " " << edge.first << " " << edge.second << " quantized";
}

TEST(SmoothQuantGolden, EqualsNncfQuantizePt2e) {
  size_t smoothed = 0;
  const json golden = goldens();
  for (const auto& record : golden["fx"]) {
    const std::string name = record["model"], what = name + " " + record["config"].get<std::string>();
    const auto data = inputs_of(name);
    Model model = Model::load(file_of(name, "model"));
    run_passes(model);
    const SmoothQuantParameters parameters{record["convolution"], record["matmul"]};
    const auto result = smooth_quant(model, data, parameters, {});
    const auto scales = scales_of(result, GraphView(model));
    EXPECT_EQ(scales.size(), 2 * record["scales"].size()) << what;
    for (const auto& [layer, scale] : record["scales"].items()) {
      ASSERT_TRUE(scales.count(layer)) << what << " " << layer;
      expect_close(scales.at(layer), scale, 1e-5, what + " " + layer);
      ++smoothed;
    }
    compare_points(record, model, data, what);
  }
  EXPECT_GE(smoothed, 50u);
}

TEST(SmoothQuantGolden, EqualsTheMultipliersOfNncfQuantize) {
  size_t records = 0;
  const json golden = goldens();
  for (const auto& record : golden["hooks"]) {
    const std::string name = record["model"], what = name + " " + record["config"].get<std::string>();
    Model model = Model::load(file_of(name, "model"));
    RewriteOptions passes;
    passes.skip = {"fold_batch_norm"};  // that backend keeps them, so its convolutions have other weights
    run_passes(model, passes);
    const auto result = smooth_quant(model, inputs_of(name), {record["convolution"], record["matmul"]}, {});
    const auto scales = scales_of(result, GraphView(model));
    for (const auto& [layer, multiplier] : record["multipliers"].items()) {
      ASSERT_TRUE(scales.count(layer)) << what << " " << layer;
      expect_close(scales.at(layer).reciprocal(), multiplier, 1e-5, what + " " + layer);
    }
    ++records;
  }
  EXPECT_EQ(records, 4u);
}

}  // namespace
}  // namespace tsquant::testing::smooth_quant_golden_test
