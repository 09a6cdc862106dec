// Accuracy bars of quantized image models with bias correction. Needs the kit.
#include <gtest/gtest.h>

#include "e2e/program.h"
#include "e2e/with_kit.h"
#include "support/support.h"

namespace tsquant {
namespace {

using testing::Outcome;

constexpr const char* kNormalize = "0.485,0.456,0.406:0.229,0.224,0.225";

struct Bar {
  std::string model;
  double float_top1, agreement;
};

class KitBias : public testing::WithKit {
 protected:
  void SetUp() override {
    WithKit::SetUp();
    folder_ = testing::temp_dir();
  }

  /// Quantizes with 300 calibration images and evaluates all test images.
  nlohmann::json measure(const std::string& model, const std::vector<std::string>& options) const {
    const std::string source = kit_ + "/models/" + model + ".pt", output = folder_ + "/quantized.pt";
    std::vector<std::string> quantize{
        "quantize", source,   "-o",          output,     "--data", kit_ + "/data/cifar10_calib.pt",
        "--inputs", "images", "--normalize", kNormalize, "--form", "reference"};
    quantize.insert(quantize.end(), options.begin(), options.end());
    const Outcome quantized = testing::tsquant(quantize);
    EXPECT_EQ(quantized.code, 0) << quantized.err;
    const Outcome evaluated = testing::tsquant(
        {"evaluate", output, "--data", kit_ + "/data/cifar10_test_dev.pt", "--inputs", "images", "--labels", "labels",
         "--metric", "top1", "--normalize", kNormalize, "--batch-size", "50", "--reference", source, "--json", "-"});
    EXPECT_EQ(evaluated.code, 0) << evaluated.err;
    return evaluated.json();
  }

  static void expect(const Bar& bar, const nlohmann::json& result) {
    EXPECT_GE(result.at("agreement").get<double>(), bar.agreement) << bar.model;
    EXPECT_GE(result.at("value").get<double>(), bar.float_top1 - 0.3 - 1e-6) << bar.model;
  }

  std::string folder_;
};

TEST_F(KitBias, DefaultsMeetTheBars) {
  for (const Bar& bar : {Bar{"cifar10_resnet20", 87.48, 99.1}, Bar{"cifar10_mobilenetv2", 84.30, 98.9}}) {
    expect(bar, measure(bar.model, {}));
  }
}

/// NNCF's ranges, means of the extrema of each sample, clip every second image.
TEST_F(KitBias, CoveringRangesBeatMeans) {
  for (const std::string model : {"cifar10_resnet20", "cifar10_resnet20_png"}) {
    const double mean = measure(model, {"--range-estimator-activations", "mean_minmax"}).at("agreement").get<double>();
    EXPECT_GE(measure(model, {}).at("agreement").get<double>(), mean + 0.1) << model;
  }
}

TEST_F(KitBias, FourBitWeightsGainClearly) {
  const std::vector<std::string> bits{"--weights-bits", "4"};
  const auto agreement = [&](const std::string& correction) {
    auto options = bits;
    options.insert(options.end(), {"--bias-correction", correction});
    return measure("cifar10_resnet20", options).at("agreement").get<double>();
  };
  const double none = agreement("none"), fast = agreement("fast"), accurate = agreement("accurate");
  EXPECT_GE(fast, none + 1);
  EXPECT_GE(accurate, fast + 0.5);
}

}  // namespace
}  // namespace tsquant
