#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include "support/support.h"

namespace tsquant::testing {
namespace {

torch::jit::Module shifted() { return define("def forward(self, x):\n  return torch.relu(x + 1.5)\n", {}); }

size_t buffers(const Model& model) { return model.module().named_buffers().size(); }

/// As in PT2E: whoever drives a quantizer by hand calls the three methods one after the other.
TEST(TransformForAnnotation, RunsTheRewritesOfTheQuantizer) {
  auto model = Model::from(shifted());
  XNNPACKQuantizer().transform_for_annotation(model);
  EXPECT_EQ(buffers(model), 1u) << "the number is a tensor";
  auto other = Model::from(shifted());
  OpenVINOQuantizer().transform_for_annotation(other);
  EXPECT_EQ(buffers(other), 0u) << "OpenVINOQuantizer leaves numbers alone";
}

TEST(TransformForAnnotation, WithinTheFlowRewritesRunOnceAndCanBeSkipped) {
  const auto data = Dataset::from_tensors({at::randn({2, 4})});
  for (const bool skip : {false, true}) {
    auto model = Model::from(shifted());
    XNNPACKQuantizer quantizer;
    quantizer.set_global(get_symmetric_quantization_config());
    QuantizePt2eOptions options;
    options.allow_empty = true;
    if (skip) options.skip_passes = {"scalars_to_tensors"};
    const auto result = quantize_pt2e(model, quantizer, data, options);
    int runs = 0;
    for (const auto& rewrite : result.report.rewrites) runs += rewrite.name == "scalars_to_tensors" && rewrite.changed;
    EXPECT_EQ(runs, skip ? 0 : 1);
  }
}

}  // namespace
}  // namespace tsquant::testing
