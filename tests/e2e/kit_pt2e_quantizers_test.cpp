// X86InductorQuantizer and XNNPACKQuantizer on a trained network. Needs the kit.
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>

#include "e2e/with_kit.h"
#include "evaluation/evaluate.h"

namespace tsquant {
namespace {

class KitPt2eQuantizers : public testing::WithKit {
 protected:
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
