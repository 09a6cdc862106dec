#include <map>

#include "unit/flows/small_net.h"

namespace tsquant::testing::quantize_report_test {
namespace {

TEST(QuantizeReport, TheReportSaysHowTheFileWasMade) {
  const auto options = [](const QuantizedModel& result) { return result.report.options; };
  const auto plain = options(run());
  const std::map<std::string, std::string> defaults{{"quantizer", "openvino"},
                                                    {"mode", "int8"},
                                                    {"preset", "performance"},
                                                    {"model_type", "none"},
                                                    {"target_device", "ANY"},
                                                    {"overflow_fix", "first_layer_only"},
                                                    {"quantizer_propagation_rule", "merge_all_in_one"},
                                                    {"quantize_outputs", "false"},
                                                    {"activations_quantization_params", "default"},
                                                    {"weights_quantization_params", "default"},
                                                    {"ignored_scope", "none"},
                                                    {"batchwise_statistics", "false"},
                                                    {"inplace_statistics", "true"},
                                                    {"activations_range_estimator_params", "default"},
                                                    {"weights_range_estimator_params", "default"},
                                                    {"smooth_quant", "false"},
                                                    {"channel_alignment", "false"},
                                                    {"bias_correction", "fast"},
                                                    {"bias_correction_params", "apply_for_all_nodes false"}};
  for (const auto& [name, value] : defaults) EXPECT_EQ(plain.at(name), value) << name;
  const auto other = options(run(with([](auto& o, Advanced& a) {
    o.preset = QuantizationPreset::kMixed;
    o.target_device = TargetDevice::kCpu;
    o.fast_bias_correction = false;
    o.ignored_scope.types = {"linear"};
    a.overflow_fix = OverflowFix::kDisable;
    a.quantizer_propagation_rule = QuantizerPropagationRule::kDoNotMergeBranches;
    a.quantize_outputs = true;
    a.inplace_statistics = false;
    a.batchwise_statistics = true;
    a.activations_range_estimator_params = RangeEstimatorParameters::median_minmax();
    a.weights_quantization_params.num_bits = 4;
    a.weights_quantization_params.per_channel = false;
    a.weights_range_estimator_params.max.clipping_value = 0.5;
    a.bias_correction_params = {true, 3.0, BiasReference::kCollected, 0.25};
  })));
  const std::map<std::string, std::string> changed{
      {"preset", "mixed"},
      {"target_device", "CPU"},
      {"overflow_fix", "disable"},
      {"quantizer_propagation_rule", "do_not_merge_branches"},
      {"quantize_outputs", "true"},
      {"weights_quantization_params", "num_bits 4, per_channel false"},
      {"ignored_scope", "types [linear]"},
      {"batchwise_statistics", "true"},
      {"inplace_statistics", "false"},
      {"activations_range_estimator_params", "median_minmax"},
      {"bias_correction", "accurate"},
      {"bias_correction_params", "apply_for_all_nodes true, threshold 3, reference collected, smallest_shift 0.25"}};
  for (const auto& [name, value] : changed) EXPECT_EQ(other.at(name), value) << name;
  EXPECT_NE(other.at("weights_range_estimator_params").find("0.5"), std::string::npos);
  const auto off = options(run(with([](auto&, Advanced& a) { a.disable_bias_correction = true; })));
  EXPECT_EQ(off.at("bias_correction"), "none");
  EXPECT_EQ(off.count("bias_correction_params"), 0u);
  const auto transformer = options(run(with([](auto& o, auto&) { o.model_type = ModelType::kTransformer; })));
  EXPECT_EQ(transformer.at("model_type"), "transformer");
  EXPECT_EQ(transformer.at("preset"), "mixed");
}

TEST(QuantizeReport, TheReportSaysWhatBecameOfEachBias) {
  const auto biases = [](const QuantizedModel& result) {
    std::map<std::string, std::string> notes;
    for (const auto& node : Report::from_json(result.report.to_json()).nodes) {
      if (!node.bias.empty()) notes[node.name] = node.bias;
    }
    return notes;
  };
  const std::string norm = "kept: layers of this kind cannot be corrected here";
  const std::map<std::string, std::string> all{
      {"/conv2d/0", "corrected"}, {"/conv2d/1", "corrected"}, {"/layer_norm/0", norm}, {"/linear/0", "corrected"}};
  EXPECT_EQ(biases(run(with([](auto&, Advanced& a) { a.bias_correction_params.smallest_shift = 0; }))), all);
  for (const auto& [name, note] :
       biases(run(with([](auto&, Advanced& a) { a.bias_correction_params.smallest_shift = 1e9; })))) {
    EXPECT_EQ(note, name == "/layer_norm/0" ? norm : "kept: the correction is below the noise of rounding");
  }
  const auto kept = biases(run(with([](auto&, Advanced& a) {
    a.bias_correction_params.threshold = 0;
    a.bias_correction_params.smallest_shift = 0;
  })));
  ASSERT_EQ(kept.size(), all.size());
  for (const auto& [name, note] : kept) {
    if (name == "/layer_norm/0") continue;
    EXPECT_EQ(note.find("kept: the correction is "), 0u) << name << ": " << note;
    EXPECT_NE(note.find(" times the bias, not below the threshold"), std::string::npos) << note;
  }
  EXPECT_TRUE(biases(run(with([](auto&, Advanced& a) { a.disable_bias_correction = true; }))).empty());
  auto model = Model::from(
      define("def forward(self, x):\n    return torch.conv2d(x, self.w)\n", {{"w", at::randn({4, 3, 3, 3})}}));
  const auto without = quantize(model, Dataset::from_tensors(images()));
  EXPECT_EQ(biases(without), (std::map<std::string, std::string>{{"/conv2d/0", "kept: there is no bias"}}));
}

}  // namespace
}  // namespace tsquant::testing::quantize_report_test
