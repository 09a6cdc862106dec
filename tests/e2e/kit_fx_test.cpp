// The FX flow on trained networks. Needs the kit.
#include <gtest/gtest.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/tsquant.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "e2e/with_kit.h"
#include "evaluation/evaluate.h"
#include "support/support.h"

namespace tsquant {
namespace {

class KitFx : public testing::WithKit {
 protected:
  /// Percentage of images for which the lowered model gives the float model's class.
  double agreement(const std::string& name) const {
    const Model model = Model::load(kit_ + "/models/" + name + ".pt");
    const auto data = images("cifar10_calib", 32, 256);
    auto prepared = fx::prepare_fx(model, fx::get_default_qconfig_mapping("onednn"), data.dataset.get(0));
    at::NoGradGuard no_grad;
    for (int64_t i = 0; i < data.dataset.count(8); ++i) prepared.forward(data.dataset.get(i).args);
    auto quantized = fx::convert_fx(prepared).model.finished_module(), original = model.finished_module();
    const auto runner = [](torch::jit::Module& module) {
      return [&module](const Sample& sample) { return module.forward(sample.args); };
    };
    return evaluate(runner(quantized), images("cifar10_test_dev", 100, 1000), Metric::kTop1, runner(original))
        .agreement.value();
  }
};

TEST_F(KitFx, ResNetAgreesWithTheFloatModel) { EXPECT_GE(agreement("cifar10_resnet20"), 98.4); }

TEST_F(KitFx, MobileNetAgreesWithTheFloatModel) { EXPECT_GE(agreement("cifar10_mobilenetv2"), 98.2); }

TEST_F(KitFx, ByteLstmWithDynamicLayersKeepsItsClasses) {
  at::NoGradGuard no_grad;
  const std::string path = kit_ + "/models/reddit_bytelstm.pt", out = testing::temp_dir() + "/dynamic.pt";
  const at::Tensor test = torch::jit::load(kit_ + "/data/reddit_bytes_test.pt").attr("bytes").toTensor();
  fx::QConfigMapping mapping;
  mapping.set_global(fx::per_channel_dynamic_qconfig());
  const auto prepared = fx::prepare_fx(Model::load(path), mapping, {{test.narrow(0, 0, 1)}, {}});
  const auto result = fx::convert_fx(prepared);
  result.save(out);
  int64_t weights = 0;
  for (const auto& record : result.report.quantizers) weights += record.kind == "weight" ? 1 : 0;
  EXPECT_EQ(weights, 6) << "two linear layers and four matrices of the LSTM";
  auto quantized = torch::jit::load(out), reference = torch::jit::load(path);
  int64_t same = 0;
  for (int64_t i = 0; i < test.size(0); i += 64) {
    const auto batch = test.narrow(0, i, 64);
    const auto expected = reference.forward({batch}).toTensor().argmax(1);
    same += quantized.forward({batch}).toTensor().argmax(1).eq(expected).sum().item<int64_t>();
  }
  EXPECT_GE(static_cast<double>(same) / static_cast<double>(test.size(0)), 0.97);
}

/// The mapping of scripts/text_mapping.json: a small file that keeps the classes.
TEST_F(KitFx, ByteLstmWithStoredWeightsIsSmallAndKeepsItsClasses) {
  at::NoGradGuard no_grad;
  const std::string path = kit_ + "/models/reddit_bytelstm.pt", out = testing::temp_dir() + "/stored.pt";
  const at::Tensor test = torch::jit::load(kit_ + "/data/reddit_bytes_test.pt").attr("bytes").toTensor();
  std::ifstream file(std::string(TSQUANT_SOURCE_DIR) + "/scripts/text_mapping.json");
  const auto mapping = fx::QConfigMapping::from_json({std::istreambuf_iterator<char>(file), {}});
  const auto result = fx::convert_fx(fx::prepare_fx(Model::load(path), mapping, {{test.narrow(0, 0, 1)}, {}}));
  result.save(out);
  const auto bytes = [](const std::string& file) { return static_cast<double>(std::filesystem::file_size(file)); };
  EXPECT_LE(bytes(out) / bytes(path), 0.35);
  auto quantized = torch::jit::load(out), reference = torch::jit::load(path);
  const auto classes = [&](torch::jit::Module& module) { return module.forward({test}).toTensor().argmax(1); };
  EXPECT_GE(classes(quantized).eq(classes(reference)).to(at::kFloat).mean().item<float>(), 0.98);
}

}  // namespace
}  // namespace tsquant
