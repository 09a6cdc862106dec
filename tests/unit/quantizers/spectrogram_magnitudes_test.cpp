#include <gtest/gtest.h>

#include <algorithm>

#include "support/support.h"
#include "tsquant/error.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::testing {
namespace {

constexpr int64_t kFrequencies = 9;

/// Two layers with constant weights whose results have `kFrequencies` channels each, as one convolution.
std::vector<std::pair<std::string, at::Tensor>> weights() {
  at::manual_seed(5);
  return {{"basis", at::randn({2 * kFrequencies, 1, 16})}, {"w", at::randn({4, kFrequencies, 3}) * 0.2}};
}

/// A front end that computes `magnitude` from `re` and `im`, and a convolution that reads it.
torch::jit::Module front_end(const std::string& magnitude) {
  return define(R"(
def forward(self, x):
    t = torch.conv1d(x, self.basis, None, [8])
    re = t[:, :9, :].float()
    im = t[:, 9:, :].float()
    m = )" + magnitude +
                    "\n    return torch.relu(torch.conv1d(m, self.w))\n",
                weights());
}

at::Tensor sound() {
  at::manual_seed(6);
  // Loud low and faint high tones, so that frequencies differ in magnitude.
  const auto t = at::arange(128).to(at::kFloat);
  return (at::sin(t * 0.2) + 0.002 * at::sin(t * 2.5) + 0.0005 * at::randn({128})).view({1, 1, 128});
}

Annotations annotations(const torch::jit::Module& module, const OpenVINOQuantizerOptions& options = {}) {
  const auto model = Model::from(module);
  const GraphView view(model, record_shapes(model, {{sound()}, {}}));
  return OpenVINOQuantizer(options).annotate(view);
}

const QuantizationPoint* behind(const Annotations& found, const std::string& node) {
  for (const auto& point : found.points) {
    if (point.kind == PointKind::kActivation && point.node == node) return &point;
  }
  return nullptr;
}

int64_t refused(const Annotations& found, const std::string& code) {
  return std::count_if(found.refusals.begin(), found.refusals.end(),
                       [&](const auto& refusal) { return refusal.code == code; });
}

int64_t weight_points(const Annotations& found) {
  return std::count_if(found.points.begin(), found.points.end(),
                       [](const auto& point) { return point.kind == PointKind::kWeight; });
}

class Spectra : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Spellings, Spectra,
                         ::testing::Values("torch.sqrt(re ** 2 + im ** 2)", "torch.sqrt(re * re + im * im + 1e-8)",
                                           "torch.sqrt(torch.clamp(torch.pow(re, 2.0) + im.square(), 1e-6))",
                                           "torch.hypot(re, im)", "re ** 2 + im ** 2"));

TEST_P(Spectra, StayInFloatWithOneScalePerFrequencyBehindThem) {
  const auto found = annotations(front_end(GetParam()));
  EXPECT_EQ(weight_points(found), 1);  // of the convolution that reads the spectrum
  ASSERT_EQ(found.points.size(), 2u);
  const auto& activation = *std::find_if(found.points.begin(), found.points.end(),
                                         [](const auto& point) { return point.kind == PointKind::kActivation; });
  EXPECT_TRUE(activation.spec.per_channel);
  EXPECT_EQ(activation.spec.ch_axis, 1);
  EXPECT_GE(refused(found, "spectrum"), 6);
  EXPECT_EQ(refused(found, "ignored"), 0);
}

class NoSpectra : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Spellings, NoSpectra,
                         ::testing::Values("torch.sqrt(re ** 3 + im ** 3)", "torch.sqrt(re * im + im * re)",
                                           "torch.relu(re) ** 2 + torch.relu(im) ** 2", "re + im"));

TEST_P(NoSpectra, AreQuantizedAsUsual) {
  const auto found = annotations(front_end(GetParam()));
  EXPECT_EQ(weight_points(found), 2);
  EXPECT_EQ(refused(found, "spectrum"), 0);
  for (const auto& point : found.points) EXPECT_TRUE(point.kind == PointKind::kWeight || !point.spec.per_channel);
}

TEST(SpectraOptions, TheUserDecidesAboutScalesPerChannel) {
  OpenVINOQuantizerOptions options;
  options.activations_quantization_params.per_channel = false;
  const auto found = annotations(front_end("torch.sqrt(re ** 2 + im ** 2)"), options);
  ASSERT_NE(behind(found, "/sqrt/0"), nullptr);
  EXPECT_FALSE(behind(found, "/sqrt/0")->spec.per_channel);
  EXPECT_GE(refused(found, "spectrum"), 6);
}

TEST(SpectraOptions, TheUsersIgnoredScopeKeepsItsReason) {
  OpenVINOQuantizerOptions options;
  options.ignored_scope.types = {"sqrt"};
  const auto found = annotations(front_end("torch.sqrt(re ** 2 + im ** 2)"), options);
  EXPECT_EQ(refused(found, "ignored"), 1);
}

/// Frequencies that are not along dimension 1 any more: one scale, because that dimension may change its size.
TEST(SpectraOptions, MovedFrequenciesShareOneScale) {
  auto module = define(R"(
def forward(self, x):
    t = torch.conv1d(x, self.basis, None, [8]).transpose(1, 2)
    m = torch.sqrt(t[:, :, :9] ** 2 + t[:, :, 9:] ** 2)
    return torch.linear(m, self.v)
)",
                       {{"basis", weights()[0].second}, {"v", at::randn({4, kFrequencies})}});
  const auto found = annotations(module);
  ASSERT_NE(behind(found, "/sqrt/0"), nullptr);
  EXPECT_FALSE(behind(found, "/sqrt/0")->spec.per_channel);
}

double relative_error(const torch::jit::Module& module, OutputForm form, const OpenVINOQuantizerOptions& options) {
  auto model = Model::from(module);
  OpenVINOQuantizer quantizer(options);
  QuantizePt2eOptions flow;
  flow.form = form;
  const auto result = quantize_pt2e(model, quantizer, Dataset::from_tensors({sound()}), flow);
  const auto expected = model.run({{sound()}, {}}).toTensor(), got = result.model.run({{sound()}, {}}).toTensor();
  return ((got - expected).norm() / expected.norm()).item<double>();
}

/// Each output listens to two frequencies and makes up for their loudness: with one scale the faint ones are lost.
TEST(SpectraAccuracy, FaintFrequenciesSurviveInEveryForm) {
  auto module = front_end("torch.sqrt(re ** 2 + im ** 2)");
  auto basis = module.attr("basis").toTensor(), w = module.attr("w").toTensor();
  const auto t = at::conv1d(sound(), basis, {}, 8);
  const auto magnitude = (t.narrow(1, 0, kFrequencies).square() + t.narrow(1, kFrequencies, kFrequencies).square())
                             .sqrt()
                             .amax(at::IntArrayRef{0, 2});
  const auto loudness = at::logspace(0, -3, kFrequencies);
  basis.copy_(basis * at::cat({loudness / magnitude, loudness / magnitude}).view({-1, 1, 1}));
  auto listens = at::zeros({4, kFrequencies, 1});
  for (int64_t i = 0; i < 4; ++i) listens[i].narrow(0, 2 * i + 1, 2).fill_(1);
  w.copy_(w.abs() * listens / loudness.view({1, -1, 1}));
  OpenVINOQuantizerOptions one_scale;
  one_scale.activations_quantization_params.per_channel = false;
  const double shared = relative_error(module, OutputForm::kReference, one_scale);
  EXPECT_GT(shared, 0.1);
  for (const auto form :
       {OutputForm::kReference, OutputForm::kDecomposed, OutputForm::kFakeQuantize, OutputForm::kLowered}) {
    EXPECT_LT(relative_error(module, form, {}), shared / 10) << static_cast<int>(form);
  }
}

}  // namespace
}  // namespace tsquant::testing
