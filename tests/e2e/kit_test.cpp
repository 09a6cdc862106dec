// The program on real models and data: its figures for float models, and how the forms agree. Needs the kit; the bars
// of quantized models are in kit_bias_test.cpp.
#include <gtest/gtest.h>

#include "e2e/program.h"
#include "e2e/with_kit.h"
#include "support/support.h"

namespace tsquant {
namespace {

using testing::Outcome;

class Kit : public testing::WithKit {
 protected:
  void SetUp() override {
    WithKit::SetUp();
    folder_ = testing::temp_dir();
  }
  std::string model(const std::string& name) const { return kit_ + "/models/" + name + ".pt"; }
  std::string quantize(const std::string& name, const std::string& form) const {
    const std::string output = folder_ + "/" + name + "_" + form + ".pt";
    const Outcome result =
        testing::tsquant({"quantize", model(name), "-o", output, "--data", kit_ + "/data/cifar10_calib.pt", "--inputs",
                          "images", "--normalize", kNormalize, "--subset-size", "300", "--form", form});
    EXPECT_EQ(result.code, 0) << result.err;
    return output;
  }
  nlohmann::json evaluate(const std::string& path, const std::string& reference) const {
    const Outcome result = testing::tsquant({"evaluate", path, "--data", kit_ + "/data/cifar10_test_dev.pt", "--inputs",
                                             "images", "--labels", "labels", "--metric", "top1", "--normalize",
                                             kNormalize, "--scale", "255", "--reference", reference, "--json", "-"});
    EXPECT_EQ(result.code, 0) << result.err;
    return result.json();
  }
  static constexpr const char* kNormalize = "0.485,0.456,0.406:0.229,0.224,0.225";
  std::string folder_;
};

TEST_F(Kit, FormsOfResNetAgree) {
  const auto fp32 = evaluate(model("cifar10_resnet20"), model("cifar10_resnet20"));
  EXPECT_NEAR(fp32.at("value").get<double>(), 87.48, 0.011);
  EXPECT_EQ(fp32.at("samples"), 5000);
  EXPECT_EQ(fp32.at("agreement"), 100.0);
  const auto reference = quantize("cifar10_resnet20", "reference");
  EXPECT_GE(evaluate(quantize("cifar10_resnet20", "lowered"), reference).at("agreement").get<double>(), 99.5);
  EXPECT_EQ(evaluate(quantize("cifar10_resnet20", "decomposed"), reference).at("agreement"), 100.0);
}

TEST_F(Kit, ScriptedMobileNetMeetsTheBarOfTheTracedOne) {
  const std::string name = "cifar10_mobilenetv2_scripted";
  EXPECT_GE(evaluate(quantize(name, "reference"), model(name)).at("agreement").get<double>(), 98.9);
}

TEST_F(Kit, PerplexityOfTheCharacterModel) {
  const auto result = testing::tsquant({"evaluate", model("charlm_llama"), "--metric", "perplexity", "--inputs",
                                        "tokens", "--data", kit_ + "/data/tinyshakespeare_val_dev.pt", "--json", "-"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NEAR(result.json().at("value").get<double>(), 4.2845, 0.001);
  EXPECT_NEAR(result.json().at("nats").get<double>(), 1.4550, 0.0002);
}

}  // namespace
}  // namespace tsquant
