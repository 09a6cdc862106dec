// What an archive carries besides the model survives quantization.
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include "support/support.h"

namespace tsquant::testing::carried_content_test {
namespace {

torch::jit::Module net() {
  at::manual_seed(1);
  auto module = define(
      "def forward(self, x):\n"
      "    return torch.conv2d(torch.relu(torch.conv2d(x, self.w)), self.v)\n",
      {{"w", at::randn({8, 3, 3, 3})}, {"v", at::randn({4, 8, 1, 1})}});
  module.register_buffer("mean", at::full({3, 1, 1}, 0.5));
  module.define("def normalized(self, x):\n  return (x - self.mean) / 2\n");
  module.register_buffer("anchors", at::arange(6).to(at::kFloat));
  module.register_attribute("label", c10::StringType::get(), "seven");
  return module;
}

std::vector<at::Tensor> images() {
  at::manual_seed(2);
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 8; ++i) tensors.push_back(at::randn({1, 3, 8, 8}));
  return tensors;
}

QuantizedModel quantized(Model model, OutputForm form) {
  OpenVINOQuantizer quantizer;
  QuantizePt2eOptions options;
  options.form = form;
  return quantize_pt2e(model, quantizer, Dataset::from_tensors(images()), options);
}

class CarriedContent : public ::testing::TestWithParam<OutputForm> {};

TEST_P(CarriedContent, SurvivesInEveryForm) {
  const std::string dir = temp_dir();
  std::string binary(100000, '\0');
  for (size_t i = 0; i < binary.size(); ++i) binary[i] = static_cast<char>(i * 7);
  torch::jit::ExtraFilesMap files{
      {"config.txt", "stride 32"}, {"labels/coco.json", "[\"cat\"]"}, {"blob", binary}, {"nothing", ""}};
  torch::jit::Module module = net();
  module.save(dir + "/model.pt", files);
  quantized(Model::load(dir + "/model.pt"), GetParam()).save(dir + "/quantized.pt");

  torch::jit::ExtraFilesMap found{
      {"config.txt", "?"}, {"labels/coco.json", "?"}, {"blob", "?"}, {"nothing", "?"}, {"tsquant_form", "?"}};
  auto loaded = torch::jit::load(dir + "/quantized.pt", c10::nullopt, found);
  for (const auto& [name, content] : files) EXPECT_EQ(found[name], content) << name;
  EXPECT_NE(found["tsquant_form"], "?");
  EXPECT_EQ(loaded.attr("label").toStringRef(), "seven");
  EXPECT_TRUE(loaded.attr("anchors").toTensor().equal(at::arange(6).to(at::kFloat)));
  EXPECT_TRUE(loaded.get_method("normalized")({at::ones({3, 2, 2})}).toTensor().equal(at::full({3, 2, 2}, 0.25)));
  EXPECT_FALSE(loaded.is_training());
}

INSTANTIATE_TEST_SUITE_P(Flows, CarriedContent,
                         ::testing::Values(OutputForm::kReference, OutputForm::kDecomposed, OutputForm::kFakeQuantize,
                                           OutputForm::kLowered),
                         [](const auto& info) { return std::to_string(static_cast<int>(info.param)); });

/// A list that names the weights a second time, as old recurrent layers have it, would keep them as floats.
TEST(CarriedContent, ListsOfQuantizedWeightsAreEmptied) {
  auto module = net();
  c10::List<at::Tensor> weights, first, own;
  weights.push_back(module.attr("w").toTensor());
  weights.push_back(module.attr("v").toTensor());
  first.push_back(module.attr("w").toTensor());
  own.push_back(at::full({2}, 7.f));
  module.register_attribute("all_weights", c10::ListType::create(c10::ListType::ofTensors()),
                            c10::List<c10::List<at::Tensor>>({weights}));
  module.register_attribute("first", c10::ListType::ofTensors(), first);
  module.register_attribute("own", c10::ListType::ofTensors(), own);
  const std::string dir = temp_dir();
  module.save(dir + "/model.pt");
  quantized(Model::load(dir + "/model.pt"), OutputForm::kReference).save(dir + "/quantized.pt");
  const auto loaded = torch::jit::load(dir + "/quantized.pt");
  EXPECT_EQ(loaded.attr("all_weights").toListRef().size(), 0U);
  EXPECT_EQ(loaded.attr("first").toListRef().size(), 0U);
  EXPECT_TRUE(loaded.attr("own").toTensorVector().at(0).equal(at::full({2}, 7.f)));
  // What stays in float keeps its list.
  OpenVINOQuantizer second;
  second.set_ignored_scope({{"/conv2d/0"}, {}, {}, {}});
  Model model = Model::load(dir + "/model.pt");
  quantize_pt2e(model, second, Dataset::from_tensors(images())).save(dir + "/half.pt");
  EXPECT_EQ(torch::jit::load(dir + "/half.pt").attr("first").toListRef().size(), 1U);
  EXPECT_EQ(torch::jit::load(dir + "/half.pt").attr("all_weights").toListRef().size(), 0U);
}

TEST(CarriedContent, OurOwnFilesAreWrittenAnew) {
  const std::string dir = temp_dir();
  net().save(dir + "/model.pt", {{"tsquant_form", "stale"}, {"mine", "kept"}});
  quantized(Model::load(dir + "/model.pt"), OutputForm::kReference).save(dir + "/quantized.pt");
  const auto files = Model::load(dir + "/quantized.pt").extra_files();
  EXPECT_EQ(files.at("tsquant_form"), "reference");
  EXPECT_EQ(files.at("mine"), "kept");
}

TEST(CarriedContent, ClonesAndStrippedModelsCarryThemToo) {
  const std::string dir = temp_dir();
  auto model = Model::from(net());
  model.set_extra_files({{"config.txt", "stride 32"}});
  EXPECT_EQ(model.clone().extra_files(), model.extra_files());
  const auto result = quantized(model, OutputForm::kReference);
  Model reference = result.model;
  strip(reference, /*do_copy=*/true, StripFormat::kInPlace).save(dir + "/stripped.pt");
  EXPECT_EQ(Model::load(dir + "/stripped.pt").extra_files().at("config.txt"), "stride 32");
}

}  // namespace
}  // namespace tsquant::testing::carried_content_test
