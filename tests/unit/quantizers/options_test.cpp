#include <gtest/gtest.h>

#include <algorithm>

#include "golden_graph.h"
#include "quantizers/openvino/hardware_table.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

using openvino::QConfig;

/// x -> conv -> relu -> linear; everything with a weight.
openvino::PlacementGraph small_graph() {
  GraphMaker maker;
  const int conv = maker.weighted("conv2d", maker.input());
  maker.output({maker.weighted("linear", maker.op("relu", {conv}))});
  return maker.graph;
}

QConfig first_config(const openvino::Placement& placement, PointKind kind) {
  for (const auto& point : placement.setup.points) {
    if (point.kind == kind) return point.config();
  }
  return {};
}

std::string error_of(const OpenVINOQuantizerOptions& options) {
  try {
    place(small_graph(), options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(Options, presets_choose_the_mode_of_activations) {
  OpenVINOQuantizerOptions options;
  EXPECT_EQ(first_config(place(small_graph(), options), PointKind::kActivation).mode, QuantizationScheme::kSymmetric);
  options.preset = QuantizationPreset::kMixed;
  const auto mixed = place(small_graph(), options);
  EXPECT_EQ(first_config(mixed, PointKind::kActivation).mode, QuantizationScheme::kAsymmetric);
  EXPECT_EQ(first_config(mixed, PointKind::kWeight).mode, QuantizationScheme::kSymmetric);
}

TEST(Options, a_transformer_defaults_to_mixed) {
  OpenVINOQuantizerOptions options;
  options.model_type = ModelType::kTransformer;
  EXPECT_EQ(first_config(place(small_graph(), options), PointKind::kActivation).mode, QuantizationScheme::kAsymmetric);
  options.preset = QuantizationPreset::kPerformance;
  EXPECT_EQ(first_config(place(small_graph(), options), PointKind::kActivation).mode, QuantizationScheme::kSymmetric);
}

TEST(Options, activation_mode_overrides_the_preset) {
  OpenVINOQuantizerOptions options;
  options.activations_quantization_params.mode = QuantizationScheme::kAsymmetric;
  EXPECT_EQ(first_config(place(small_graph(), options), PointKind::kActivation).mode, QuantizationScheme::kAsymmetric);
}

TEST(Options, weights_per_tensor) {
  OpenVINOQuantizerOptions options;
  EXPECT_TRUE(first_config(place(small_graph(), options), PointKind::kWeight).per_channel);
  options.weights_quantization_params.per_channel = false;
  EXPECT_FALSE(first_config(place(small_graph(), options), PointKind::kWeight).per_channel);
}

TEST(Options, overrides_without_candidate_are_refused) {
  OpenVINOQuantizerOptions options;
  options.activations_quantization_params.narrow_range = true;
  EXPECT_NE(error_of(options).find("no activation quantizer with mode=symmetric, narrow_range=true (at conv2d)"),
            std::string::npos)
      << error_of(options);
  options = {};
  options.activations_quantization_params.per_channel = true;
  EXPECT_NE(error_of(options).find("per_channel=true"), std::string::npos);
  options = {};
  options.activations_quantization_params.signedness_to_force = true;
  EXPECT_NE(error_of(options).find("signedness_to_force=true"), std::string::npos);
  options = {};
  options.weights_quantization_params.num_bits = 4;
  options.weights_quantization_params.signedness_to_force = false;
  EXPECT_NE(error_of(options).find("no weight quantizer with num_bits=4"), std::string::npos) << error_of(options);
  EXPECT_NE(error_of(options).find("weights_quantization_params"), std::string::npos);
  options = {};
  options.overflow_fix = OverflowFix::kDisable;
  options.weights_quantization_params.mode = QuantizationScheme::kAsymmetric;
  options.weights_quantization_params.narrow_range = true;
  EXPECT_NE(error_of(options).find("no weight quantizer with mode=asymmetric, narrow_range=true"), std::string::npos)
      << error_of(options);
}

TEST(Options, bits_of_weights_are_the_users_choice) {
  for (int64_t bits = 2; bits <= 8; ++bits) {
    for (const auto per_channel : {c10::optional<bool>(), c10::optional<bool>(true), c10::optional<bool>(false)}) {
      for (const auto mode : {QuantizationScheme::kSymmetric, QuantizationScheme::kAsymmetric}) {
        OpenVINOQuantizerOptions options;
        options.overflow_fix = OverflowFix::kDisable;
        options.weights_quantization_params.num_bits = bits;
        options.weights_quantization_params.per_channel = per_channel;
        options.weights_quantization_params.mode = mode;
        const auto placement = place(small_graph(), options);
        const QConfig weight = first_config(placement, PointKind::kWeight);
        EXPECT_EQ(weight.num_bits, bits);
        EXPECT_EQ(weight.per_channel, per_channel.value_or(true));
        EXPECT_EQ(weight.mode, mode);
        EXPECT_EQ(weight.narrow_range, mode == QuantizationScheme::kSymmetric);
        EXPECT_EQ(first_config(placement, PointKind::kActivation).num_bits, 8);
      }
    }
  }
}

TEST(Options, bits_of_activations_are_the_users_choice) {
  OpenVINOQuantizerOptions options;
  options.activations_quantization_params.num_bits = 6;
  const auto placement = place(small_graph(), options);
  size_t count = 0;
  for (const auto& point : placement.setup.points) {
    EXPECT_EQ(point.config().num_bits, point.kind == PointKind::kActivation ? 6 : 8);
    ++count;
  }
  EXPECT_EQ(count, place(small_graph(), {}).setup.points.size());
}

TEST(Options, symmetric_weights_may_use_the_lowest_level) {
  OpenVINOQuantizerOptions options;
  EXPECT_TRUE(first_config(place(small_graph(), options), PointKind::kWeight).narrow_range);
  options.weights_quantization_params.narrow_range = false;
  const QConfig weight = first_config(place(small_graph(), options), PointKind::kWeight);
  EXPECT_FALSE(weight.narrow_range);
  EXPECT_EQ(weight.num_bits, 8);
  EXPECT_TRUE(weight.per_channel);
}

TEST(Options, asymmetric_weights_need_the_overflow_fix_off) {
  OpenVINOQuantizerOptions options;
  options.weights_quantization_params.mode = QuantizationScheme::kAsymmetric;
  EXPECT_NE(error_of(options).find("the overflow fix needs symmetric weights"), std::string::npos);
  options.overflow_fix = OverflowFix::kDisable;
  EXPECT_EQ(first_config(place(small_graph(), options), PointKind::kWeight).mode, QuantizationScheme::kAsymmetric);
}

TEST(Options, the_npu_has_four_bit_weights_of_its_own) {
  OpenVINOQuantizerOptions options;
  options.target_device = TargetDevice::kNpu;
  options.weights_quantization_params.num_bits = 4;
  EXPECT_EQ(first_config(place(small_graph(), options), PointKind::kWeight).num_bits, 4);
  EXPECT_FALSE(first_config(place(small_graph(), options), PointKind::kWeight).narrow_range);  // from its table
  options.target_device = TargetDevice::kGpu;
  EXPECT_TRUE(first_config(place(small_graph(), options), PointKind::kWeight).narrow_range);
}

TEST(Options, gpu_and_npu_follow_the_cpu_for_eight_bits) {
  const int interpolate = openvino::metatype_index("PTInterpolateMetatype");
  for (const auto device : {TargetDevice::kGpu, TargetDevice::kNpu}) {
    EXPECT_EQ(openvino::make_hardware_table(device, true)[interpolate].trait, QuantizationTrait::kInputsQuantizable);
    EXPECT_EQ(openvino::make_hardware_table(device, false)[interpolate].trait, QuantizationTrait::kNonQuantizable);
  }
  const int add = openvino::metatype_index("PTAddMetatype");
  EXPECT_FALSE(openvino::make_hardware_table(TargetDevice::kAny, true)[add].unified_scales);
  EXPECT_TRUE(openvino::make_hardware_table(TargetDevice::kNpu, false)[add].unified_scales);
}

TEST(Options, the_table_prefers_per_channel_activations_for_depthwise_convolutions) {
  const auto table = openvino::make_hardware_table(TargetDevice::kAny, true);
  const int depthwise = openvino::metatype_index("PTDepthwiseConv2dSubtype");
  EXPECT_TRUE(table[depthwise].activations.front().per_channel);
  EXPECT_FALSE(table[openvino::metatype_index("PTConv2dMetatype")].activations.front().per_channel);
}

/// Two convolutions into an addition: CPU_SPR keeps one of the two quantizers.
TEST(Options, sapphire_rapids_adds_into_one_operand) {
  GraphMaker maker;
  const int x = maker.input();
  const int a = maker.weighted("conv2d", x, "a"), b = maker.weighted("conv2d", x, "b");
  maker.output({maker.op("add", {a, b})});
  OpenVINOQuantizerOptions options;
  const size_t all = place(maker.graph, options).setup.points.size();
  options.target_device = TargetDevice::kCpuSpr;
  // Neither operand has another consumer and both are convolutions themselves: their producer is the input.
  EXPECT_EQ(place(maker.graph, options).setup.points.size(), all);

  GraphMaker longer;
  const int y = longer.input();
  const int c = longer.op("sigmoid", {longer.weighted("conv2d", y, "c")});
  const int d = longer.op("relu", {longer.weighted("conv2d", y, "d")});
  longer.output({longer.op("add", {c, d})});
  options.target_device = TargetDevice::kAny;
  const size_t both = place(longer.graph, options).setup.points.size();
  options.target_device = TargetDevice::kCpuSpr;
  EXPECT_EQ(place(longer.graph, options).setup.points.size(), both - 1);
}

TEST(Options, sapphire_rapids_keeps_the_quantizer_of_the_branching_operand_and_all_weights) {
  GraphMaker maker;
  const int stem = maker.op("relu", {maker.weighted("conv2d", maker.input(), "stem")});
  const int branch = maker.weighted("conv2d", stem, "branch");
  maker.output({maker.weighted("conv2d", maker.op("add", {stem, branch}), "last")});
  OpenVINOQuantizerOptions options;
  const auto all = place(maker.graph, options).setup;
  options.target_device = TargetDevice::kCpuSpr;
  const auto setup = place(maker.graph, options).setup;
  const auto places = [](const openvino::Setup& some, PointKind kind) {
    std::vector<int> nodes;
    for (const auto& point : some.points) {
      if (point.kind == kind) nodes.push_back(point.node);
    }
    return nodes;
  };
  EXPECT_EQ(places(setup, PointKind::kWeight), places(all, PointKind::kWeight));
  auto expected = places(all, PointKind::kActivation);
  expected.erase(std::remove(expected.begin(), expected.end(), branch), expected.end());
  EXPECT_EQ(places(setup, PointKind::kActivation), expected);
  EXPECT_LT(setup.points.size(), all.points.size());
}

TEST(Options, a_transformer_leaves_residual_additions_in_float) {
  GraphMaker maker;
  const int x = maker.op("tanh", {maker.input()});
  const int add = maker.op("add", {x, maker.weighted("linear", x)});
  maker.output({add});
  OpenVINOQuantizerOptions options;
  EXPECT_EQ(place(maker.graph, options).fates[add], openvino::Fate::kNone);
  options.model_type = ModelType::kTransformer;
  EXPECT_EQ(place(maker.graph, options).fates[add], openvino::Fate::kIgnoredModelType);
}

TEST(Options, matrix_products_of_activations_are_symmetric_in_a_transformer) {
  GraphMaker maker;
  const int a = maker.op("tanh", {maker.input("a")}), b = maker.op("tanh", {maker.input("b")}, "tanh_1");
  maker.output({maker.op("matmul", {a, b})});
  OpenVINOQuantizerOptions options;
  options.preset = QuantizationPreset::kMixed;
  EXPECT_EQ(first_config(place(maker.graph, options), PointKind::kActivation).mode, QuantizationScheme::kAsymmetric);
  options.model_type = ModelType::kTransformer;
  EXPECT_EQ(first_config(place(maker.graph, options), PointKind::kActivation).mode, QuantizationScheme::kSymmetric);
}

}  // namespace
}  // namespace tsquant::testing
