// Models with attention from the float model to the quantized one. Traces: scripts/make_attention_traces.py.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "graph/node_lists.h"
#include "passes/rewrite_runner.h"
#include "quantizers/transform_model.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

constexpr int64_t kBatch = 2, kLength = 10;

bool has_padding(const std::string& name) { return name == "encoder_padded" || name.rfind("weights_", 0) == 0; }

std::vector<Sample> sequences(const std::string& name) {
  at::manual_seed(8);
  std::vector<Sample> samples;
  for (int64_t i = 0; i < 8; ++i) {
    Sample sample{{at::randn({kBatch, kLength, 6})}, {}};
    const auto lengths = at::tensor(std::vector<int64_t>{kLength, kLength - i % 4}).unsqueeze(1);
    if (has_padding(name)) sample.args.emplace_back(at::arange(kLength).unsqueeze(0) >= lengths);
    samples.push_back(std::move(sample));
  }
  return samples;
}

Model load(const std::string& name) { return Model::load(data_file("traces/" + name + ".pt")); }

QuantizedModel quantized(const std::string& name, Quantizer& quantizer, OutputForm form = OutputForm::kReference) {
  Model model = load(name);
  QuantizePt2eOptions options;
  options.form = form;
  return quantize_pt2e(model, quantizer, Dataset(sequences(name)), options);
}

std::vector<at::Tensor> results(const Model& model, const Sample& sample) {
  const auto value = model.run(sample);
  if (value.isTensor()) return {value.toTensor()};
  std::vector<at::Tensor> tensors;
  for (const auto& element : value.toTupleRef().elements()) tensors.push_back(element.toTensor());
  return tensors;
}

/// Distance over all samples, relative to the norm of what the float model returns.
double error_of(const std::string& name, const QuantizedModel& result) {
  const Model model = load(name);
  double difference = 0, size = 0;
  for (const auto& sample : sequences(name)) {
    const auto expected = results(model, sample), actual = results(result.model, sample);
    EXPECT_EQ(expected.size(), actual.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(expected[i].sizes(), actual[i].sizes());
      difference += (actual[i] - expected[i]).square().sum().item<double>();
      size += expected[i].square().sum().item<double>();
    }
  }
  return std::sqrt(difference / size);
}

/// Linear layers as "quantized/all".
std::string linear_layers(const Report& report) {
  int quantized = 0, all = 0;
  for (const auto& node : report.nodes) {
    if (node.type != "linear") continue;
    ++all;
    quantized += node.quantized;
  }
  return fmt::format("{}/{}", quantized, all);
}

size_t count(const QuantizedModel& result, const char* kind) {
  return nodes_of_kind(result.model.graph()->block(), {kind}).size();
}

TEST(Attention, FusedEncoderLayersAreQuantizedInEveryForm) {
  OpenVINOQuantizerOptions options;
  options.model_type = ModelType::kTransformer;
  for (const auto form :
       {OutputForm::kDecomposed, OutputForm::kReference, OutputForm::kFakeQuantize, OutputForm::kLowered}) {
    OpenVINOQuantizer quantizer(options);
    const auto result = quantized("encoder_fused", quantizer, form);
    EXPECT_EQ(linear_layers(result.report), "10/10");
    EXPECT_EQ(count(result, "aten::_transformer_encoder_layer_fwd"), 0u);
    EXPECT_LT(error_of("encoder_fused", result), 0.1);
    if (form == OutputForm::kLowered) {
      EXPECT_EQ(count(result, "aten::linear"), 0u) << "all in int8 kernels";
    }
  }
}

TEST(Attention, FusedLayersAreAsCloseToFloatAsSpelledOutOnes) {
  OpenVINOQuantizer quantizer;
  const double fused = error_of("encoder_fused", quantized("encoder_fused", quantizer));
  const double parts = error_of("encoder_parts", quantized("encoder_parts", quantizer));
  EXPECT_LT(fused, 1.3 * parts);
  EXPECT_LT(fused, 0.08);
}

std::set<std::string> quantized_weights(const std::string& name, const OpenVINOQuantizerOptions& options) {
  OpenVINOQuantizer quantizer(options);
  Model model = load(name);
  RewriteRunner runner(model);
  runner.run_passes(RewritePhase::kFloat);
  transform_model(runner, quantizer);
  const GraphView view(model, record_shapes(model, sequences(name)[0]));
  std::set<std::string> weights;
  for (const auto& point : quantizer.annotate(view).points) {
    if (point.kind != PointKind::kWeight) continue;
    weights.insert(view.node(view.input_edge(*view.find(point.node), point.input_port.value_or(1))->from).name);
  }
  return weights;
}

TEST(Attention, FusedAndSpelledOutLayersHaveTheSameQuantizedWeights) {
  for (const auto model_type : {c10::optional<ModelType>(), c10::make_optional(ModelType::kTransformer)}) {
    OpenVINOQuantizerOptions options;
    options.model_type = model_type;
    for (const std::string model : {"encoder", "weights"}) {
      const auto fused = quantized_weights(model + "_fused", options);
      EXPECT_GE(fused.size(), model == "encoder" ? 10u : 3u);
      EXPECT_EQ(fused, quantized_weights(model + "_parts", options));
    }
  }
}

TEST(Attention, X86AndXnnpackSeeTheLayersToo) {
  X86InductorQuantizer x86;
  x86.set_global(get_default_x86_inductor_quantization_config());
  XNNPACKQuantizer xnnpack;
  xnnpack.set_global(get_symmetric_quantization_config(/*is_per_channel=*/true));
  for (Quantizer* quantizer : std::vector<Quantizer*>{&x86, &xnnpack}) {
    const auto result = quantized("encoder_fused", *quantizer);
    EXPECT_EQ(linear_layers(result.report), "10/10");
    EXPECT_LT(error_of("encoder_fused", result), 0.1);
  }
}

TEST(Attention, ScriptedEncoderIsQuantizedInTheBranchesThatRun) {
  OpenVINOQuantizer quantizer;
  const auto result = quantized("encoder_scripted", quantizer);
  EXPECT_EQ(count(result, "aten::_transformer_encoder_layer_fwd"), 0u);
  EXPECT_EQ(count(result, "aten::_native_multi_head_attention"), 0u);
  EXPECT_GE(count(result, "aten::quantize_per_tensor"), 20u);
  const double error = error_of("encoder_scripted", result);
  EXPECT_LT(error, 0.08);
  EXPECT_GT(error, 0) << "the branch that runs is one of the quantized ones";
}

TEST(Attention, PaddedEncoderIsQuantizedWithoutNestedTensors) {
  OpenVINOQuantizer quantizer;
  const auto result = quantized("encoder_padded", quantizer);
  EXPECT_EQ(linear_layers(result.report), "9/9");
  EXPECT_EQ(count(result, "aten::_nested_tensor_from_mask"), 0u);
  EXPECT_LT(error_of("encoder_padded", result), 0.05);
}

/// Operators that read quantized tensors, without the ordinals of their names.
std::multiset<std::string> quantized_functions(const Report& report) {
  std::multiset<std::string> functions;
  for (const auto& node : report.nodes) {
    if (node.quantized) functions.insert(node.type == "bmm" || node.type == "baddbmm" ? "matmul" : node.type);
  }
  return functions;
}

TEST(Attention, AttentionWeightsAreReturned) {
  OpenVINOQuantizer quantizer;
  const auto result = quantized("weights_fused", quantizer);
  EXPECT_EQ(linear_layers(result.report), "3/3");
  EXPECT_LT(error_of("weights_fused", result), 0.05);
  const auto functions = quantized_functions(result.report);
  EXPECT_EQ(functions.count("matmul"), 2u) << "the weights are read, so NNCF's pattern of attention does not match";
  EXPECT_EQ(functions, quantized_functions(quantized("weights_parts", quantizer).report));
}

TEST(Attention, CrossAttentionGetsAWeightForEachArgumentAndSurvivesSaving) {
  at::manual_seed(10);
  const auto module = define(R"(
def forward(self, x, memory):
    out, weights = torch._native_multi_head_attention(x, memory, memory, 8, 2, self.qkv_w, self.qkv_b, self.out_w,
                                                      self.out_b, None, False, True, None)
    return out
)",
                             {{"qkv_w", at::randn({24, 8}) * 0.4},
                              {"qkv_b", at::randn({24})},
                              {"out_w", at::randn({8, 8}) * 0.4},
                              {"out_b", at::randn({8})}});
  std::vector<Sample> samples;
  for (int64_t i = 0; i < 6; ++i) samples.push_back({{at::randn({2, 5, 8}), at::randn({2, 5, 8})}, {}});
  for (const auto form : {OutputForm::kReference, OutputForm::kLowered}) {
    Model model = Model::from(module);
    OpenVINOQuantizer quantizer;
    QuantizePt2eOptions options;
    options.form = form;
    // The mean of the extremes of so few small batches would clip.
    options.activations_range_estimator_params = RangeEstimatorParameters::minmax();
    const auto result = quantize_pt2e(model, quantizer, Dataset(samples), options);
    EXPECT_EQ(linear_layers(result.report), "3/3");
    const auto weights = std::count_if(result.report.quantizers.begin(), result.report.quantizers.end(),
                                       [](const auto& record) { return record.kind == "weight"; });
    EXPECT_EQ(weights, 3);
    const std::string path = temp_dir() + "/cross.pt";
    result.save(path);
    auto loaded = torch::jit::load(path);
    EXPECT_EQ(loaded.attr("qkv_w").toTensor().numel(), 0) << "the packed weight has no reader left";
    const auto expected = Model::from(module).run(samples[0]).toTensor();
    const auto actual = loaded.forward(samples[0].args).toTensor();
    EXPECT_TRUE(at::equal(actual, result.model.run(samples[0]).toTensor()));
    EXPECT_LT(((actual - expected).norm() / expected.norm()).item<double>(), 0.05);
  }
}

TEST(Attention, NestedTensorsThatStayAreNamedInTheReport) {
  std::vector<std::pair<std::string, at::Tensor>> params;
  at::manual_seed(9);
  const auto add = [&](const char* name, at::IntArrayRef shape) { params.emplace_back(name, at::randn(shape) * 0.4); };
  add("qkv_w", {24, 8}), add("qkv_b", {24}), add("out_w", {8, 8}), add("out_b", {8}), add("norm_w", {8});
  add("norm_b", {8}), add("up_w", {12, 8}), add("up_b", {12}), add("down_w", {8, 12}), add("down_b", {8});
  add("head", {4, 8});
  const auto module = define(R"(
def forward(self, x, mask):
    n = torch._nested_tensor_from_mask(torch.linear(x, self.out_w, self.out_b), mask, False)
    h = torch._transformer_encoder_layer_fwd(n, 8, 2, self.qkv_w, self.qkv_b, self.out_w, self.out_b, False, False,
                                             1e-5, self.norm_w, self.norm_b, self.norm_w, self.norm_b, self.up_w,
                                             self.up_b, self.down_w, self.down_b, None, None)
    y = torch.nested_to_padded_tensor(n, 0.0) + torch.nested_to_padded_tensor(h, 0.0)
    return torch.linear(y, self.head)
)",
                             params);
  Model model = Model::from(module);
  std::vector<Sample> samples;
  for (int64_t i = 0; i < 4; ++i) {
    samples.push_back({{at::randn({2, 5, 8}),
                        at::arange(5).unsqueeze(0) < at::tensor(std::vector<int64_t>{5, 3 + i % 2}).unsqueeze(1)},
                       {}});
  }
  OpenVINOQuantizer quantizer;
  QuantizePt2eOptions options;
  options.form = OutputForm::kReference;
  const auto result = quantize_pt2e(model, quantizer, Dataset(samples), options);
  EXPECT_EQ(linear_layers(result.report), "2/2");
  const std::string reason = "its input may be a nested tensor (rows of different length)";
  const auto& nodes = result.report.nodes;
  const auto node = std::find_if(nodes.begin(), nodes.end(),
                                 [](const auto& record) { return record.type == "_transformer_encoder_layer_fwd"; });
  ASSERT_NE(node, nodes.end());
  EXPECT_FALSE(node->quantized);
  EXPECT_EQ(node->code, "whole_attention");
  EXPECT_EQ(node->reason, "attention in one operator, which is not taken apart: " + reason);
  const auto& warnings = result.report.warnings;
  EXPECT_NE(std::find(warnings.begin(), warnings.end(), node->name + " is not taken apart: " + reason), warnings.end());
}

}  // namespace
}  // namespace tsquant::testing
