#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "fx_golden.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

AnnotatedModel annotate(const std::string& model, const fx::QConfigMapping& mapping,
                        const fx::PrepareCustomConfig& custom = {}) {
  fx::FxQuantizer quantizer(mapping, custom);
  return AnnotatedModel(Model::load(data_file("fx/" + model + ".pt")), quantizer, {});
}

/// Where ours differ, and why.
const std::map<std::string, Lines>& known_differences() {
  static const std::map<std::string, Lines> known{
      // Dropout does nothing after training: it shares the observer of its input.
      {"mlp",
       {"- body_2 makes @body_2", "+ body_2 makes @body_0", "- body_3 reads body_2 through @body_2",
        "+ body_3 reads body_2 through @body_0"}},
      // FX knows the function flatten, but not the method, which is the same operator here.
      {"functional",
       {"- flatten makes @flatten", "+ flatten makes @bn", "- transpose reads flatten through @flatten",
        "+ transpose reads flatten through @bn", "- transpose makes @flatten", "+ transpose makes @bn",
        "- fc reads transpose through @flatten", "+ fc reads transpose through @bn",
        "- transpose_1 reads transpose through @flatten", "+ transpose_1 reads transpose through @bn",
        "- transpose_1 makes @flatten", "+ transpose_1 makes @bn", "- matmul reads transpose_1 through @flatten",
        "+ matmul reads transpose_1 through @bn"}},
      // In FX 1.13 `cat_1.size(0)` takes the observers away from cat_1 and what follows.
      {"reshape_size_quirk",
       {"- cat_1 makes -", "+ cat_1 makes @c", "- gap reads cat_1 through -", "+ gap reads cat_1 through @c",
        "- gap makes -", "+ gap makes @c", "- reshape reads gap through -", "+ reshape reads gap through @c",
        "- reshape makes -", "+ reshape makes @c", "- fc reads reshape through -", "+ fc reads reshape through @c"}},
  };
  return known;
}

class FxGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(FxGolden, observers_stand_where_torch_ao_has_them) {
  const auto& model = fx_golden()["models"][GetParam()];
  const auto known = known_differences().find(GetParam());
  const Lines expected = known == known_differences().end() ? Lines() : known->second;
  EXPECT_EQ(differences(golden_lines(model), our_lines(model, annotate(GetParam(), min_max_mapping()))), expected);
}

const char* class_of(const QuantizationSpec& spec) {
  if (spec.fixed_scale) return "FixedQParamsObserver";
  switch (spec.observer) {
    case ObserverKind::kMinMax:
      return "MinMaxObserver";
    case ObserverKind::kPerChannelMinMax:
      return "PerChannelMinMaxObserver";
    case ObserverKind::kHistogram:
      return "HistogramObserver";
    default:
      return "other";
  }
}

nlohmann::json as_json(const QuantizationSpec& spec) {
  const bool is_symmetric = spec.mode == QuantizationScheme::kSymmetric;
  nlohmann::json json{
      class_of(spec), spec.dtype == c10::kChar ? "qint8" : "quint8",
      std::string(spec.per_channel ? "per_channel" : "per_tensor") + (is_symmetric ? "_symmetric" : "_affine"),
      spec.quant_min.value_or(0), spec.quant_max.value_or(255)};
  if (spec.fixed_scale) json.insert(json.end(), {*spec.fixed_scale, *spec.fixed_zero_point});
  return json;
}

TEST_P(FxGolden, observers_are_torch_ao_s) {
  const std::map<std::string, fx::QConfigMapping> kinds{{"minmax", min_max_mapping()},
                                                        {"fbgemm", fx::get_default_qconfig_mapping("fbgemm")},
                                                        {"qnnpack", fx::get_default_qconfig_mapping("qnnpack")}};
  for (const auto& [kind, mapping] : kinds) {
    std::set<nlohmann::json> golden, ours;
    for (const auto& observer : fx_golden()["models"][GetParam()]["observers"][kind]) {
      if (observer[1] != "qint8") golden.insert(observer);  // weights of layers have none in this list
    }
    for (const auto& point : annotate(GetParam(), mapping).annotations().points) {
      if (point.kind == PointKind::kActivation) ours.insert(as_json(point.spec));
    }
    EXPECT_EQ(ours, golden) << kind;
  }
}

INSTANTIATE_TEST_SUITE_P(models, FxGolden,
                         ::testing::Values("conv_bn_relu", "residual", "mlp", "cat_pool", "acts", "functional",
                                           "reshape_size_quirk", "emb_linear"),
                         [](const auto& info) { return info.param; });

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
