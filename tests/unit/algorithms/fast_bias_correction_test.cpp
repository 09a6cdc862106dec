#include "algorithms/fast_bias_correction.h"

#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include "algorithms/channel_mean.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

TEST(FastBiasCorrection, SimulatedReferenceLeavesExactWeightsAlone) {
  // Weights that are multiples of their scale quantize without error: nothing to correct, although zero padding makes
  // the collected means differ from those of a constant input.
  at::manual_seed(0);
  at::Tensor weight = at::randint(-126, 127, {4, 3, 3, 3}).to(at::kFloat);
  weight.flatten(1).select(1, 0).fill_(127);
  auto module = define("def forward(self, x):\n    return torch.conv2d(x, self.w, self.b, [1, 1], [1, 1])\n",
                       {{"w", weight}, {"b", at::ones({4})}});
  std::vector<at::Tensor> data;
  for (int i = 0; i < 4; ++i) data.push_back(at::rand({1, 3, 6, 6}) * at::arange(6).to(at::kFloat));
  QuantizePt2eOptions options;
  OpenVINOQuantizerOptions placement;
  placement.overflow_fix = OverflowFix::kDisable;
  OpenVINOQuantizer quantizer(placement);
  const auto bias = [&](BiasReference reference) {
    options.bias_correction_params.reference = reference;
    options.bias_correction_params.threshold = 1e9;
    auto model = Model::from(module);
    const auto result = quantize_pt2e(model, quantizer, Dataset::from_tensors(data), options);
    return result.model.module().attr("b").toTensor();
  };
  EXPECT_TRUE(at::allclose(bias(BiasReference::kSimulated), at::ones({4}), 1e-4, 1e-3));
  EXPECT_FALSE(at::allclose(bias(BiasReference::kCollected), at::ones({4}), 1e-4, 1e-3));
}

TEST(ChannelMean, AveragesBatchesAndMerges) {
  ChannelMean all(1), first(1), second(-3);
  const auto a = at::randn({2, 3, 4, 4}), b = at::randn({2, 3, 4, 4}) + 1;
  all.observe(a);
  all.observe(at::empty({0, 3, 4, 4}));
  all.observe(b);
  first.observe(a);
  second.observe(b);
  first.merge(second);
  EXPECT_TRUE(at::allclose(all.mean(), (a.mean({0, 2, 3}) + b.mean({0, 2, 3})) / 2, 1e-5, 1e-6));
  EXPECT_TRUE(at::equal(all.mean(), first.mean()));
  ChannelMean restored(1);
  restored.set_state(all.state());
  EXPECT_TRUE(at::equal(all.mean(), restored.mean()));
  EXPECT_EQ(restored.first_shape(), (std::vector<int64_t>{2, 3, 4, 4}));
}

}  // namespace
}  // namespace tsquant::testing
