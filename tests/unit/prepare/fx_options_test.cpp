// What the arguments of the FX flow change, and what it refuses.
#include <gtest/gtest.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/tsquant.h>

#include "graph/node_lists.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing::fx_options {
namespace {

namespace fx = tsquant::fx;

torch::jit::Module net() {
  at::manual_seed(1);
  auto module = define(R"(
def forward(self, x):
    y = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    return torch.conv2d(y, self.w2, self.b2, [1, 1], [1, 1])
)",
                       {{"w1", at::randn({8, 3, 3, 3})},
                        {"b1", at::randn({8})},
                        {"w2", at::randn({4, 8, 3, 3}) * 0.3},
                        {"b2", at::randn({4})}});
  module.register_attribute("classes", c10::IntType::get(), static_cast<int64_t>(4));
  return module;
}

Model model() {
  static const Model captured = Model::from(net());
  return captured.clone();
}

at::Tensor image() {
  at::manual_seed(2);
  return at::randn({2, 3, 8, 8});
}

fx::QConfigMapping mapping() {
  fx::QConfigMapping result;
  fx::QConfig qconfig = fx::get_default_qconfig("onednn");
  qconfig.activation = ObserverConfig();
  result.set_global(qconfig);
  return result;
}

torch::jit::Module calibrated(const fx::PrepareCustomConfig& custom = {}) {
  auto prepared = fx::prepare_fx(model(), mapping(), {{image()}, {}}, custom);
  prepared.forward({image()});
  return prepared;
}

size_t count(const QuantizedModel& result, const char* kind) {
  return nodes_of_kind(result.model.graph()->block(), {kind}).size();
}

TEST(FxOptions, AQuantizedOutputStaysQuantized) {
  fx::PrepareCustomConfig custom;
  custom.set_output_quantized_indexes({0});
  const auto result = fx::convert_to_reference_fx(calibrated(custom));
  const at::Tensor codes = result.model.run({{image()}, {}}).toTensor();
  ASSERT_TRUE(codes.is_quantized());
  const at::Tensor expected = model().run({{image()}, {}}).toTensor();
  EXPECT_LT(((codes.dequantize() - expected).norm() / expected.norm()).item<double>(), 0.03);
  result.save(temp_dir() + "/model.pt");
  EXPECT_FALSE(fx::convert_to_reference_fx(calibrated()).model.run({{image()}, {}}).toTensor().is_quantized());
}

TEST(FxOptions, AQuantizedInputIsTakenAsItIs) {
  fx::PrepareCustomConfig custom;
  custom.set_input_quantized_indexes({0});
  const auto result = fx::convert_to_reference_fx(calibrated(custom)),
             plain = fx::convert_to_reference_fx(calibrated());
  EXPECT_EQ(count(result, "aten::quantize_per_tensor") + 1, count(plain, "aten::quantize_per_tensor"));
  const at::Tensor codes = at::quantize_per_tensor_dynamic(image(), at::kQUInt8, false);
  const at::Tensor expected = model().run({{codes.dequantize()}, {}}).toTensor();
  const at::Tensor actual = result.model.run({{codes}, {}}).toTensor();
  EXPECT_LT(((actual - expected).norm() / expected.norm()).item<double>(), 0.03);
  result.save(temp_dir() + "/model.pt");

  custom.set_input_quantized_indexes({3});
  EXPECT_EQ(thrown_error([&] { calibrated(custom); }).place(), "set_input_quantized_indexes");
}

TEST(FxOptions, AMappingForConversionLeavesOperatorsInFloat) {
  const auto prepared = calibrated();
  fx::ConvertFxOptions options;
  options.qconfig_mapping = mapping();
  options.qconfig_mapping->set_object_type("conv2d", c10::nullopt);
  const auto result = fx::convert_to_reference_fx(prepared, options);
  EXPECT_EQ(result.report.quantized_count(), 0);
  EXPECT_EQ(count(result, "aten::quantize_per_tensor"), 0U);
  EXPECT_EQ(fx::convert_to_reference_fx(prepared).report.quantized_count(), 2);

  options.qconfig_mapping = mapping();
  EXPECT_EQ(fx::convert_to_reference_fx(prepared, options).report.quantized_count(), 2);
  options.qconfig_mapping->set_global(fx::get_default_qconfig("qnnpack"));
  EXPECT_EQ(thrown_error([&] { fx::convert_fx(prepared, options); }).place(), "qconfig_mapping");
  options.qconfig_mapping = mapping();
  options.qconfig_mapping->set_object_type("linear", fx::get_default_qconfig("qnnpack"));
  EXPECT_NE(thrown_error([&] { fx::convert_fx(prepared, options); }).message().find("linear"), std::string::npos);
}

TEST(FxOptions, TheMappingMayStayInTheModel) {
  fx::ConvertFxOptions options;
  EXPECT_FALSE(fx::convert_to_reference_fx(calibrated(), options).model.module().hasattr("qconfig_mapping"));
  options.remove_qconfig = false;
  const auto result = fx::convert_to_reference_fx(calibrated(), options);
  const std::string path = temp_dir() + "/model.pt";
  result.save(path);
  const auto text = torch::jit::load(path).attr("qconfig_mapping").toStringRef();
  EXPECT_TRUE(fx::QConfigMapping::from_json(text) == mapping());
}

TEST(FxOptions, TheBackendIsThatOfPreparation) {
  fx::ConvertFxOptions options;
  options.backend_config = fx::get_native_backend_config();
  EXPECT_NO_THROW(fx::convert_to_reference_fx(calibrated(), options));
  options.backend_config = fx::get_qnnpack_backend_config();
  EXPECT_EQ(thrown_error([&] { fx::convert_to_reference_fx(calibrated(), options); }).place(), "backend_config");
}

TEST(FxOptions, PreservedAttributesMustExist) {
  fx::PrepareCustomConfig custom;
  custom.set_preserved_attributes({"classes"});
  const auto prepared = calibrated(custom);
  EXPECT_EQ(prepared.attr("classes").toInt(), 4);
  fx::ConvertFxOptions options;
  options.convert_custom_config.set_preserved_attributes({"classes"});
  EXPECT_EQ(fx::convert_fx(prepared, options).model.module().attr("classes").toInt(), 4);
  EXPECT_EQ(fx::fuse_fx(model(), fx::FuseCustomConfig().set_preserved_attributes({"classes"})).module().attr("classes"),
            c10::IValue(4));
  custom.set_preserved_attributes({"clases"});
  const auto error = thrown_error([&] { calibrated(custom); });
  EXPECT_NE(error.message().find("clases"), std::string::npos);
  EXPECT_NE(error.advice().find("classes"), std::string::npos);
}

TEST(FxOptions, AttributesCanBeAttached) {
  auto module = model().finished_module();
  fx::attach_preserved_attrs_to_model(module, {{"classes", static_cast<int64_t>(7)}, {"note", std::string("new")}});
  EXPECT_EQ(module.attr("classes").toInt(), 7);
  EXPECT_EQ(module.attr("note").toStringRef(), "new");
  EXPECT_EQ(thrown_error([&] {
              fx::attach_preserved_attrs_to_model(module, {{"classes", std::string("7")}});
            }).code(),
            ErrorCode::kInvalidArgument);
}

TEST(FxOptions, AStandaloneModuleReturnsOneTensor) {
  auto prepared = fx::prepare_standalone_module_fx(model(), mapping(), {{image()}, {}});
  prepared.forward({image()});
  EXPECT_EQ(fx::convert_standalone_module_fx(prepared).report.form, "reference");
  const Model pair = Model::from(define("def forward(self, x):\n    return torch.relu(x), x\n"));
  EXPECT_EQ(thrown_error([&] {
              fx::prepare_standalone_module_fx(pair, mapping(), {{image()}, {}});
            }).code(),
            ErrorCode::kUnsupportedModel);
}

TEST(FxOptions, ModelsOfOtherFlowsAreConvertedByThem) {
  OpenVINOQuantizer quantizer;
  auto prepared = prepare_pt2e(model(), quantizer, {{image()}, {}});
  prepared.forward({image()});
  EXPECT_EQ(thrown_error([&] { fx::convert_fx(prepared); }).place(), "prepared model");
  EXPECT_EQ(thrown_error([&] { fx::convert_fx(net()); }).place(), "prepared model");
}

TEST(FxOptions, AnArgumentThatMayBeNoneIsObservedWhereItIsRead) {
  at::manual_seed(5);
  auto source = define(R"(
def forward(self, x, mask: Optional[Tensor] = None):
    y = torch.relu(torch.linear(x, self.w1))
    if mask is not None:
        y = y + mask
    return torch.linear(y, self.w2)
)",
                       {{"w1", at::randn({16, 8}) * 0.3}, {"w2", at::randn({4, 16}) * 0.3}});
  Model optional = Model::from(source);
  const auto x = at::randn({6, 8}), mask = at::randn({6, 16});
  auto prepared = fx::prepare_fx(optional, mapping(), {{x, mask}, {}});
  prepared.forward({x, mask});
  prepared.forward({x});
  const Sample both{{x, mask}, {}}, one{{x}, {}};
  fx::FxQuantizer quantizer(mapping());
  const Dataset data(2, [&](int64_t i) { return i == 0 ? both : one; });
  for (const auto& result : {fx::convert_to_reference_fx(prepared), quantize_pt2e(optional, quantizer, data)}) {
    for (const Sample& sample : {both, one}) {
      const auto want = optional.run(sample).toTensor(), got = result.model.run(sample).toTensor();
      EXPECT_FALSE(at::equal(got, want));
      EXPECT_LT((got - want).abs().max().item<float>(), want.abs().max().item<float>() * 0.05);
    }
  }
}

}  // namespace
}  // namespace tsquant::testing::fx_options
