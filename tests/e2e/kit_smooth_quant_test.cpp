// Transformers of the kit with 8-bit weights and activations. Needs the kit.
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include "e2e/with_kit.h"
#include "evaluation/evaluate.h"
#include "tsquant/data_files.h"

namespace tsquant {
namespace {

class KitTransformers : public testing::WithKit {
 protected:
  Model load(const std::string& name) const { return Model::load(kit_ + "/models/" + name + ".pt"); }

  /// Windows of 128 characters.
  DataFile text(const std::string& file, int64_t batch_size, int64_t limit) const {
    DataOptions options;
    options.inputs = {"tokens"};
    options.window = 128;
    options.batch_size = batch_size;
    options.limit = limit;
    return load_data(kit_ + "/data/" + file + ".pt", options);
  }

  static QuantizedModel quantize(Model& model, const Dataset& data, bool smooth) {
    OpenVINOQuantizerOptions placement;
    placement.model_type = ModelType::kTransformer;
    OpenVINOQuantizer quantizer(placement);
    QuantizePt2eOptions options;
    options.form = OutputForm::kReference;
    options.smooth_quant = smooth;
    return quantize_pt2e(model, quantizer, data, options);
  }

  static Evaluation measure(const Model& model, const DataFile& data, Metric metric, const Model& reference) {
    auto module = model.finished_module(), other = reference.finished_module();
    const auto runner = [](torch::jit::Module& which) {
      return [&which](const Sample& sample) {
        at::NoGradGuard no_grad;
        return which.forward(sample.args);
      };
    };
    return evaluate(runner(module), data, metric, runner(other));
  }

  /// Perplexity divided by the float model's, on 160 windows; calibrated on 64.
  double relative_perplexity(const std::string& name, bool smooth) const {
    Model model = load(name);
    const auto result = quantize(model, text("tinyshakespeare_calib", 1, 64).dataset, smooth);
    EXPECT_EQ(result.report.options.count("groups_smoothed"), smooth ? 1u : 0u);
    if (smooth) {
      EXPECT_EQ(result.report.options.at("groups_smoothed"), "25 of 25");
    }
    const auto data = text("tinyshakespeare_val_dev", 16, 160);
    return measure(result.model, data, Metric::kPerplexity, model).value /
           measure(model, data, Metric::kPerplexity, model).value;
  }
};

TEST_F(KitTransformers, CharacterModelKeepsItsPerplexity) {
  EXPECT_LE(relative_perplexity("charlm_llama", true), 1.01);
  EXPECT_LE(relative_perplexity("charlm_llama", false), 1.01);
}

TEST_F(KitTransformers, SmoothQuantRescuesPlantedOutliers) {
  EXPECT_GE(relative_perplexity("charlm_llama_outliers", false), 1.05);
  EXPECT_LE(relative_perplexity("charlm_llama_outliers", true), 1.015);
}

TEST_F(KitTransformers, VisionTransformerKeepsThePredictions) {
  Model model = load("cifar10_vit");
  const auto result = quantize(model, images("cifar10_calib", 1).dataset, true);
  EXPECT_TRUE(result.report.warnings.empty());
  const auto data = images("cifar10_test_dev", 50);
  const auto int8 = measure(result.model, data, Metric::kTop1, model);
  EXPECT_EQ(int8.samples, 5000);
  EXPECT_GE(*int8.agreement, 98.0);
  EXPECT_GE(int8.value, 62.86 - 0.3);
}

}  // namespace
}  // namespace tsquant
