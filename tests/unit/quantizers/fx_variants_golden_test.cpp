#include <gtest/gtest.h>

#include <algorithm>

#include "fx_golden.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

AnnotatedModel annotate(const std::string& model, const fx::QConfigMapping& mapping,
                        const fx::PrepareCustomConfig& custom = {}) {
  fx::FxQuantizer quantizer(mapping, custom);
  return AnnotatedModel(Model::load(data_file("fx/" + model + ".pt")), quantizer, {});
}

Lines variant_differences(const std::string& variant, const AnnotatedModel& annotated) {
  const auto& golden = fx_golden()["variants"][variant];
  return differences(golden_lines(golden), our_lines(golden, annotated));
}

TEST(FxGoldenVariant, readers_of_a_float_module_observe_its_result) {
  auto mapping = min_max_mapping();
  mapping.set_module_name("b1", c10::nullopt);
  EXPECT_EQ(variant_differences("residual_b1_none", annotate("residual", mapping)), Lines());
}

TEST(FxGoldenVariant, dynamic_layers_observe_their_input_alone) {
  fx::QConfigMapping mapping;
  mapping.set_global(fx::default_dynamic_qconfig());
  const auto annotated = annotate("mlp", mapping);
  EXPECT_EQ(variant_differences("dynamic_int8", annotated), Lines());
  for (const auto& point : annotated.annotations().points) {
    EXPECT_EQ(point.spec.is_dynamic, point.kind == PointKind::kActivation);
  }
}

TEST(FxGoldenVariant, inputs_may_be_quantized_already) {
  fx::PrepareCustomConfig custom;
  custom.set_input_quantized_indexes({0});
  EXPECT_EQ(variant_differences("input_quantized_idx0", annotate("conv_bn_relu", min_max_mapping(), custom)), Lines());
}

TEST(FxGoldenVariant, outputs_may_stay_quantized) {
  fx::PrepareCustomConfig custom;
  custom.set_output_quantized_indexes({0});
  EXPECT_EQ(variant_differences("output_quantized_idx0", annotate("conv_bn_relu", min_max_mapping(), custom)), Lines());
}

// FX 1.13 lets `relu_2 * 0.5` share with a convolution far before it when the additions between are in float.
TEST(FxGoldenVariant, nothing_shares_over_float_operators) {
  auto mapping = min_max_mapping();
  mapping.set_object_type("operator.add", c10::nullopt);
  const auto& golden = fx_golden()["variants"]["residual_add_none"];
  const Lines far = golden_lines(golden), ours = our_lines(golden, annotate("residual", mapping));
  const auto has = [](const Lines& lines, const char* line) {
    return std::count(lines.begin(), lines.end(), line) > 0;
  };
  EXPECT_TRUE(has(far, "mul makes @b2_conv2"));
  EXPECT_TRUE(has(ours, "relu_2 reads add_2 through @add_2"));
  EXPECT_TRUE(has(ours, "mul makes @add_2"));
  EXPECT_TRUE(has(ours, "add reads b1_conv2 through @b1_conv2"));
}

}  // namespace
}  // namespace tsquant::testing
