// X86InductorQuantizer and XNNPACKQuantizer on a trained network. Needs the kit.
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>

#include "evaluation/evaluate.h"
#include "support/support.h"
#include "tsquant/data_files.h"

namespace tsquant {
namespace {

class KitPt2eQuantizers : public ::testing::Test {
 protected:
  void SetUp() override {
    kit_ = testing::kit_dir();
    if (kit_.empty()) GTEST_SKIP() << "the kit is not here (set TSQUANT_KIT)";
  }

  DataFile images(const std::string& file, int64_t batch_size, int64_t limit) const {
    DataOptions options;
    options.inputs = {"images"};
    options.labels = "labels";
    options.scale = 255;
    options.mean = {0.485, 0.456, 0.406};
    options.stddev = {0.229, 0.224, 0.225};
    options.batch_size = batch_size;
    options.limit = limit;
    return load_data(kit_ + "/data/" + file + ".pt", options);
  }

  /// Percentage of images for which the quantized model gives the float model's class.
  double agreement(Quantizer& quantizer) const {
    Model model = Model::load(kit_ + "/models/cifar10_resnet20.pt");
    QuantizePt2eOptions options;
    options.form = OutputForm::kReference;
    const auto result = quantize_pt2e(model, quantizer, images("cifar10_calib", 32, 256).dataset, options);
    auto quantized = result.model.finished_module(), original = model.finished_module();
    const auto runner = [](torch::jit::Module& module) {
      return [&module](const Sample& sample) {
        at::NoGradGuard no_grad;
        return module.forward(sample.args);
      };
    };
    const auto data = images("cifar10_test_dev", 100, 1000);
    return evaluate(runner(quantized), data, Metric::kTop1, runner(original)).agreement.value();
  }

  std::string kit_;
};

TEST_F(KitPt2eQuantizers, X86AgreesWithTheFloatModel) {
  X86InductorQuantizer quantizer;
  quantizer.set_global(get_default_x86_inductor_quantization_config());
  EXPECT_GE(agreement(quantizer), 98.0);
}

TEST_F(KitPt2eQuantizers, XnnpackAgreesWithTheFloatModel) {
  XNNPACKQuantizer quantizer;
  quantizer.set_global(get_symmetric_quantization_config(/*is_per_channel=*/true));
  EXPECT_GE(agreement(quantizer), 98.0);
}

}  // namespace
}  // namespace tsquant
