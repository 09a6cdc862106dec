#include "tsquant/model.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/files.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

torch::jit::Module scaled() {
  auto module = define("def forward(self, x):\n    return x * self.weight\n", {{"weight", at::full({1}, 3.f)}});
  module.define("def twice(self, x):\n    return x * 2\n");
  module.register_attribute("label", c10::StringType::get(), "seven");
  return module;
}

TEST(Model, OtherMethodsAndAttributesSurviveSaving) {
  const std::string path = temp_dir() + "/m.pt";
  Model::from(scaled()).save(path, {{"note", "hello"}});
  torch::jit::ExtraFilesMap extra{{"note", ""}};
  auto loaded = torch::jit::load(path, c10::nullopt, extra);
  EXPECT_EQ(loaded.forward({at::ones({1})}).toTensor().item<float>(), 3);
  EXPECT_EQ(loaded.get_method("twice")({at::ones({1})}).toTensor().item<float>(), 2);
  EXPECT_EQ(loaded.attr("label").toStringRef(), "seven");
  EXPECT_EQ(extra["note"], "hello");
}

TEST(Model, ASubmoduleThatIsSharedStaysShared) {
  const auto child = scaled();
  const auto module =
      define("def forward(self, x):\n    return self.a.forward(self.b.forward(x))\n", {}, {{"a", child}, {"b", child}});
  const Model model = Model::from(module);
  EXPECT_EQ(model.module().attr("a").toObject(), model.module().attr("b").toObject());
  EXPECT_NE(model.module().attr("a").toObject(), child._ivalue());
  EXPECT_EQ(model.run({{at::ones({1})}, {}}).toTensor().item<float>(), 9);
}

TEST(Model, ExtraFilesOfTheArchiveAreCarried) {
  const std::string dir = temp_dir();
  const std::string binary("\0\xff\x00 binary", 10);
  scaled().save(dir + "/a.pt", {{"config.txt", "stride 32"}, {"deep/er/blob", binary}, {"nothing", ""}});
  Model model = Model::load(dir + "/a.pt");
  EXPECT_EQ(model.extra_files().size(), 3);
  EXPECT_EQ(model.clone().extra_files().at("deep/er/blob"), binary);
  model.save(dir + "/b.pt", {{"config.txt", "given"}, {"more", "new"}});
  const auto files = Model::load(dir + "/b.pt").extra_files();
  const std::map<std::string, std::string> expected{
      {"config.txt", "given"}, {"deep/er/blob", binary}, {"more", "new"}, {"nothing", ""}};
  EXPECT_EQ(files, expected);
  model.set_extra_files({});
  model.save(dir + "/c.pt");
  EXPECT_TRUE(Model::load(dir + "/c.pt").extra_files().empty());
}

TEST(Model, TensorsThatNoMethodReadsAreKnown) {
  auto module = scaled();
  module.register_buffer("anchors", at::ones({3}));
  module.define("def anchored(self):\n    return self.anchors\n");
  module.register_buffer("classes", at::ones({3}));
  EXPECT_EQ(Model::from(module).unread_at_capture(), std::set<std::string>{"classes"});
}

/// Old recurrent layers list their weights twice more. Such lists are no content of their own; others are.
TEST(Model, ListsOfWeightsAreNotTakenForContent) {
  auto module = scaled();
  const auto weight = module.attr("weight").toTensor();
  c10::List<at::Tensor> weights, anchors;
  weights.push_back(weight);
  anchors.push_back(at::ones({3}));
  module.register_attribute("weights", c10::ListType::ofTensors(), weights);
  module.register_attribute("anchors", c10::ListType::ofTensors(), anchors);
  EXPECT_EQ(Model::from(module).unread_at_capture(), std::set<std::string>{"anchors"});
}

/// Tied weights: what another name says that is read is no content of its own; two unread names of one tensor are.
TEST(Model, AnotherNameOfAReadTensorIsNotTakenForContent) {
  auto module = scaled();
  module.register_buffer("tied", module.attr("weight").toTensor());
  const at::Tensor anchors = at::ones({3});
  module.register_buffer("anchors", anchors);
  module.register_buffer("more_anchors", anchors);
  const std::set<std::string> expected{"anchors", "more_anchors"};
  EXPECT_EQ(Model::from(module).unread_at_capture(), expected);
}

TEST(Model, PropertiesAndConstantsSurviveCopying) {
  auto module = scaled();
  module.type()->addConstant("version", 3);
  module.define("def get_double(self) -> float:\n    return 2 * 1.5\n");
  module.type()->addProperty("double", module.type()->findMethod("get_double"), nullptr);
  const Model model = Model::from(module);
  EXPECT_TRUE(model.module().type()->getProperty("double"));
  EXPECT_EQ(model.module().attr("version", c10::IValue()).toInt(), 3);
}

TEST(Model, FrozenModulesAreCaptured) {
  const Model model = Model::from(torch::jit::freeze(scaled()));
  EXPECT_EQ(model.run({{at::ones({1})}, {}}).toTensor().item<float>(), 3);
}

TEST(Model, SavingTwiceGivesTheSameBytes) {
  const std::string dir = temp_dir();
  const Model model = Model::from(scaled());
  model.save(dir + "/a.pt");
  const Model again = Model::load(dir + "/a.pt");
  again.save(dir + "/b.pt");
  Model::load(dir + "/a.pt").save(dir + "/c.pt");
  EXPECT_EQ(bytes_of(dir + "/b.pt").size(), bytes_of(dir + "/c.pt").size());
  EXPECT_NE(bytes_of(dir + "/b.pt"), "");
}

TEST(Model, AFailedSaveLeavesTheOldFileAndNothingElse) {
  const std::string dir = temp_dir();
  std::filesystem::create_directory(dir + "/taken.pt");
  std::ofstream(dir + "/taken.pt/inside") << "x";
  try {
    Model::from(scaled()).save(dir + "/taken.pt");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir), {}), 1) << "a temporary file was left";
  EXPECT_TRUE(std::filesystem::exists(dir + "/taken.pt/inside"));
}

TEST(Model, AModuleWithoutForwardIsRefused) {
  torch::jit::Module module("__torch__.NoForward");
  try {
    Model::from(module);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel);
    EXPECT_EQ(error.place(), "forward");
  }
}

}  // namespace
}  // namespace tsquant::testing
