#include <gtest/gtest.h>

#include "passes/rewrite_runner.h"
#include "support/rewrite.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

Model load(const std::string& name) { return Model::load(kit_dir() + "/models/" + name); }

/// Runs all passes with verification and compares saved-state behaviour over several calls.
void expect_same_behaviour(const std::string& name, const std::vector<Sample>& samples, Model& model) {
  RewriteOptions options;
  options.sample = &samples.front();
  RewriteRunner runner(model, options);
  runner.run_passes(RewritePhase::kFloat);
  runner.run_pass("remove_identity");
  auto expected = load(name).finished_module();
  auto actual = model.finished_module();
  torch::NoGradGuard no_grad;
  for (const auto& sample : samples) expect_same(expected.forward(sample.args), actual.forward(sample.args), 1e-4);
}

#define TSQUANT_NEEDS_KIT() \
  if (kit_dir().empty()) GTEST_SKIP() << "the kit is absent (TSQUANT_KIT)"

TEST(KitModels, ScriptedMobileNetBecomesStraightLine) {
  TSQUANT_NEEDS_KIT();
  Model model = load("cifar10_mobilenetv2_scripted.pt");
  expect_same_behaviour("cifar10_mobilenetv2_scripted.pt", {{{at::randn({2, 3, 32, 32})}, {}}}, model);
  EXPECT_EQ(count_kind(model, "prim::If"), 0u);
  EXPECT_EQ(count_kind(model, "prim::Loop"), 0u);
  EXPECT_EQ(count_kind(model, "aten::batch_norm"), 0u);
  EXPECT_EQ(count_kind(model, "prim::RaiseException"), 0u);
  EXPECT_EQ(count_kind(model, "aten::conv2d"), 52u);
}

TEST(KitModels, TracedResNetHasOnlyFoldedConvolutions) {
  TSQUANT_NEEDS_KIT();
  Model model = load("cifar10_resnet20.pt");
  expect_same_behaviour("cifar10_resnet20.pt", {{{at::randn({2, 3, 32, 32})}, {}}}, model);
  EXPECT_EQ(count_kind(model, "aten::batch_norm"), 0u);
  EXPECT_EQ(count_kind(model, "aten::_convolution"), 0u);
  EXPECT_EQ(count_kind(model, "aten::conv2d"), 19u);
  EXPECT_EQ(count_kind(model, "aten::add_"), 0u);
}

TEST(KitModels, VoiceDetectorKeepsStateAndBranches) {
  TSQUANT_NEEDS_KIT();
  Model model = load("silero_vad.jit");
  std::vector<Sample> samples;
  for (int i = 0; i < 3; ++i) samples.push_back({{at::randn({1, 512}) * 0.1, int64_t{16000}}, {}});
  for (int i = 0; i < 3; ++i) samples.push_back({{at::randn({1, 256}) * 0.1, int64_t{8000}}, {}});
  expect_same_behaviour("silero_vad.jit", samples, model);
  EXPECT_GT(count_kind(model, "prim::If"), 0u);
  EXPECT_GT(count_kind(model, "prim::SetAttr"), 0u);
  EXPECT_EQ(count_kind(model, "aten::dropout"), 0u);
  // The check of the input is part of the model.
  auto module = model.finished_module();
  EXPECT_ANY_THROW(module.forward({at::randn({1, 100}), int64_t{16000}}));
}

TEST(KitModels, ByteLstmGetsLinearLayers) {
  TSQUANT_NEEDS_KIT();
  Model model = load("reddit_bytelstm.pt");
  expect_same_behaviour("reddit_bytelstm.pt", {{{at::randint(0, 255, {2, 20}, at::kByte)}, {}}}, model);
  EXPECT_EQ(count_kind(model, "aten::linear"), 2u);
  EXPECT_EQ(count_kind(model, "aten::addmm"), 0u);
  EXPECT_EQ(count_kind(model, "aten::matmul"), 0u);
}

TEST(KitModels, TransformersKeepTheirResults) {
  TSQUANT_NEEDS_KIT();
  Model vit = load("cifar10_vit.pt");
  expect_same_behaviour("cifar10_vit.pt", {{{at::randn({2, 3, 32, 32})}, {}}}, vit);
  EXPECT_EQ(count_kind(vit, "aten::dropout"), 0u);
  Model llama = load("charlm_llama.pt");
  expect_same_behaviour("charlm_llama.pt", {{{at::randint(0, 60, {1, 32})}, {}}}, llama);
}

}  // namespace
}  // namespace tsquant::testing
