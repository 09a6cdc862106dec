#include "tsquant/load_mapped.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "io/file_mapping.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

torch::jit::Module layered() {
  const auto child =
      define("def forward(self, x):\n    return torch.linear(x, self.weight)\n", {{"weight", at::randn({64, 128})}});
  auto module = define("def forward(self, x):\n    return self.a.forward(self.scale * x) + self.shift\n",
                       {{"scale", at::full({1}, 3.F)}, {"shift", at::randn({64, 64})}}, {{"a", child}});
  module.define("def twice(self, x):\n    return x * 2\n");
  return module;
}

/// Everything that a caller can see of both is equal.
void expect_equal(const Model& mapped, const Model& read) {
  EXPECT_EQ(mapped.graph()->toString(false), read.graph()->toString(false));
  EXPECT_EQ(mapped.extra_files(), read.extra_files());
  EXPECT_EQ(mapped.warnings(), read.warnings());
  EXPECT_EQ(mapped.input_names(), read.input_names());
  EXPECT_EQ(mapped.unread_at_capture(), read.unread_at_capture());
  const auto a = mapped.module().named_attributes(true), b = read.module().named_attributes(true);
  ASSERT_EQ(a.size(), b.size());
  auto other = b.begin();
  for (const auto& attribute : a) {
    EXPECT_EQ(attribute.name, (*other).name);
    const c10::IValue& x = attribute.value;
    const c10::IValue& y = (*other).value;
    if (x.isTensor() && x.toTensor().defined()) {
      EXPECT_TRUE(at::equal(x.toTensor(), y.toTensor())) << attribute.name;
      EXPECT_EQ(x.toTensor().strides(), y.toTensor().strides());
      EXPECT_EQ(x.toTensor().requires_grad(), y.toTensor().requires_grad());
    }
    ++other;
  }
}

TEST(LoadMapped, GivesTheModelThatLoadGives) {
  const std::string path = temp_dir() + "/m.pt";
  auto module = layered();
  module.train();
  module.save(path, {{"note", "hello"}});
  const Model mapped = load_mapped(path);
  EXPECT_TRUE(is_mapped(mapped.module().attr("a").toModule().attr("weight").toTensor()));
  EXPECT_FALSE(is_mapped(Model::load(path).module().attr("a").toModule().attr("weight").toTensor()));
  EXPECT_EQ(mapped.extra_files().at("note"), "hello");
  EXPECT_FALSE(mapped.warnings().empty());
  expect_equal(mapped, Model::load(path));
  CaptureOptions refuse;
  refuse.training_mode = TrainingMode::kRefuse;
  EXPECT_THROW(load_mapped(path, refuse), Error);
  EXPECT_THROW(load_mapped(path + ".absent"), Error);
}

TEST(LoadMapped, TheFileMayBeReplacedBySavingTheModel) {
  const std::string path = temp_dir() + "/m.pt";
  layered().save(path);
  const Model model = load_mapped(path);
  const auto weight = model.module().attr("a").toModule().attr("weight").toTensor();
  model.save(path);
  EXPECT_TRUE(at::equal(load_mapped(path).module().attr("a").toModule().attr("weight").toTensor(), weight));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(std::filesystem::path(path).parent_path()), {}), 1);
}

TEST(LoadMapped, ModelsOfTheKit) {
  if (kit_dir().empty()) GTEST_SKIP() << "no kit";
  for (const auto& entry : std::filesystem::directory_iterator(kit_dir() + "/models")) {
    SCOPED_TRACE(entry.path().filename().string());
    expect_equal(load_mapped(entry.path()), Model::load(entry.path()));
  }
}

}  // namespace
}  // namespace tsquant::testing
