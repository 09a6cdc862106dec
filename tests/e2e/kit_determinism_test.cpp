// The same model, data and options give the same file for any number of threads, and quantizers that differ by no more
// than float rounding for any batch size where the statistics are taken per item: on some processors LibTorch rounds
// the products of attention differently in a batch. Needs the kit.
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include "e2e/program.h"
#include "e2e/with_kit.h"
#include "support/support.h"
#include "tsquant/data_files.h"

namespace tsquant::kit_determinism_test {
namespace {

constexpr const char* kNormalize = "0.485,0.456,0.406:0.229,0.224,0.225";

struct Case {
  std::string model;
  bool text = false;  ///< windows of characters; otherwise images
  std::vector<std::string> options = {};
};

class KitDeterminism : public testing::WithKit {
 protected:
  void SetUp() override {
    WithKit::SetUp();
    folder_ = testing::temp_dir();
  }

  /// The bytes of the file that the program writes.
  std::string quantized(const Case& c, int threads) const {
    const std::string out = folder_ + "/q.pt";
    std::vector<std::string> arguments{"quantize", kit_ + "/models/" + c.model + ".pt", "-o", out, "--subset-size"};
    const std::vector<std::string> text{"8", "--data", kit_ + "/data/tinyshakespeare_calib.pt", "--inputs", "tokens"};
    const std::vector<std::string> images{
        "25", "--data", kit_ + "/data/cifar10_calib.pt", "--inputs", "images", "--normalize", kNormalize};
    for (const auto* list : {c.text ? &text : &images, &c.options}) {
      arguments.insert(arguments.end(), list->begin(), list->end());
    }
    const auto outcome = testing::tsquant(arguments, threads);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return testing::bytes_of(out);
  }

  Dataset images(int64_t batch_size) const {
    DataOptions options;
    options.inputs = {"images"};
    options.scale = 255;
    options.mean = {0.485, 0.456, 0.406};
    options.stddev = {0.229, 0.224, 0.225};
    options.batch_size = batch_size;
    options.limit = 100;
    return load_data(kit_ + "/data/cifar10_calib.pt", options).dataset;
  }
  Dataset text(int64_t batch_size) const {
    DataOptions options;
    options.inputs = {"tokens"};
    options.window = 128;
    options.batch_size = batch_size;
    options.limit = 20;
    return load_data(kit_ + "/data/tinyshakespeare_calib.pt", options).dataset;
  }

  std::string folder_;
};

TEST_F(KitDeterminism, ThreadsDoNotChangeTheFile) {
  const std::vector<std::string> accurate{"--bias-correction", "accurate"}, transformer{"--model-type", "transformer"};
  const std::vector<Case> cases{
      {"cifar10_resnet20"},
      {"cifar10_resnet20", false, accurate},
      {"cifar10_mobilenetv2"},
      {"cifar10_mobilenetv2", false, accurate},
      {"cifar10_mobilenetv2", false, {"--channel-alignment", "--range-estimator-activations", "histogram"}},
      {"cifar10_vit", false, {"--model-type", "transformer", "--smooth-quant"}},
      {"cifar10_vit", false, {"--model-type", "transformer", "--bias-correction", "accurate"}},
      {"cifar10_vit", false, {"--range-estimator-activations", "mean_quantile"}},
      {"charlm_llama", true, transformer},
      {"charlm_llama", true, accurate}};
  for (const auto& c : cases) {
    const auto one = quantized(c, 1);
    ASSERT_FALSE(one.empty()) << c.model;
    EXPECT_TRUE(quantized(c, 2) == one) << c.model << " with " << ::testing::PrintToString(c.options);
  }
}

/// What quantization made of a data set, and its output on one sample.
struct Result {
  std::vector<QuantizerRecord> quantizers;
  c10::IValue output;
};

Result quantize(const std::string& path, const Dataset& data, const Sample& probe,
                const RangeEstimatorParameters& estimator) {
  auto model = Model::load(path);
  OpenVINOQuantizerOptions placement;
  if (path.find("cifar10_resnet") == std::string::npos) placement.model_type = ModelType::kTransformer;
  OpenVINOQuantizer quantizer(placement);
  QuantizePt2eOptions options;
  options.form = OutputForm::kReference;
  options.batchwise_statistics = true;
  options.activations_range_estimator_params = estimator;
  const auto result = quantize_pt2e(model, quantizer, data, options);
  return {result.report.quantizers, result.model.run(probe)};
}

constexpr double kRounding = 1e-6;  ///< relative

void expect_close(const Result& a, const Result& b, const std::string& what) {
  ASSERT_EQ(a.quantizers.size(), b.quantizers.size()) << what;
  for (size_t i = 0; i < a.quantizers.size(); ++i) {
    const auto& one = a.quantizers[i];
    const auto& other = b.quantizers[i];
    EXPECT_EQ(one.zero_point, other.zero_point) << what << one.node;
    ASSERT_EQ(one.scale.size(), other.scale.size()) << what << one.node;
    for (size_t k = 0; k < one.scale.size(); ++k) {
      EXPECT_NEAR(one.scale[k], other.scale[k], kRounding * one.scale[k]) << what << one.node;
    }
  }
  const at::Tensor output = a.output.toTensor();
  EXPECT_LE((output - b.output.toTensor()).abs().max().item<double>(), 1e-2 * output.abs().max().item<double>())
      << what;
}

TEST_F(KitDeterminism, BatchesDoNotChangeStatisticsPerItem) {
  for (const std::string name : {"cifar10_resnet20", "cifar10_mobilenetv2", "cifar10_vit", "charlm_llama"}) {
    const bool is_text = name == "charlm_llama";
    const auto one = is_text ? text(1) : images(1), fifty = is_text ? text(10) : images(50);
    for (const auto& estimator : {RangeEstimatorParameters{}, RangeEstimatorParameters::minmax(),
                                  RangeEstimatorParameters::mean_no_outliers_minmax()}) {
      const auto path = kit_ + "/models/" + name + ".pt";
      expect_close(quantize(path, one, one.get(0), estimator), quantize(path, fifty, one.get(0), estimator), name);
    }
  }
}

}  // namespace
}  // namespace tsquant::kit_determinism_test
