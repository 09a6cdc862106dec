#include "algorithms/bias_correction.h"

#include <gtest/gtest.h>
#include <torch/torch.h>
#include <tsquant/tsquant.h>

#include <algorithm>
#include <cmath>

#include "algorithms/fast_bias_correction.h"
#include "graph/params.h"
#include "passes/rewrite_runner.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

/// Four layers with a residual connection; the second has no bias. They may stand in the branch of an `if`.
std::string network(const std::string& branch) {
  const std::string in = branch.empty() ? "    " : "        ";
  return "def forward(self, x):\n" + (branch.empty() ? "" : "    y = x\n    " + branch + "\n") + in +
         "y = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))\n" + in +
         "z = torch.relu(torch.conv2d(y, self.w2, None, [2, 2], [1, 1]))\n" + in +
         "z = z + torch.conv2d(z, self.w3, self.b3, [1, 1], [1, 1])\n" + in +
         "y = torch.linear(z.mean([2, 3]), self.w4, self.b4)\n" + "    return y\n";
}

std::vector<std::pair<std::string, at::Tensor>> parameters() {
  at::manual_seed(3);
  return {{"w1", at::randn({6, 3, 3, 3}) * 0.3},
          {"b1", at::randn({6})},
          {"w2", at::randn({8, 6, 3, 3}) * 0.2},
          {"w3", at::randn({8, 8, 3, 3}) * 0.2},
          {"b3", at::randn({8})},
          {"w4", at::randn({5, 8}) * 0.5},
          {"b4", at::randn({5})}};
}

Dataset images(int64_t count, int64_t batch = 1) {
  at::manual_seed(4);
  std::vector<at::Tensor> tensors;
  for (int64_t i = 0; i < count; ++i)
    tensors.push_back(at::rand({batch, 3, 10, 10}) + 0.1 * static_cast<double>(i % 3));
  return Dataset::from_tensors(tensors);
}

OpenVINOQuantizer four_bits() {
  OpenVINOQuantizerOptions options;
  options.weights_quantization_params.num_bits = 4;
  return OpenVINOQuantizer(options);
}

BiasCorrectionParameters every_shift() {
  BiasCorrectionParameters parameters;
  parameters.smallest_shift = 0;
  return parameters;
}

/// The float model with its decisions, ready for a bias correction.
struct Prepared {
  explicit Prepared(const std::string& source, const Dataset& dataset, int64_t subset = 25)
      : model(Model::from(define(source, parameters()))), data(dataset) {
    run_passes(model);
    view = std::make_unique<GraphView>(model, record_shapes(model, data.get(0)));
    annotations = four_bits().annotate(*view);
    calibration.subset_size = subset;
    qparams = compute_qparams(annotations, calibrate(model, *view, annotations, data, calibration));
  }

  std::vector<BiasRecord> accurate(const BiasCorrectionParameters& params = every_shift()) {
    return bias_correction(model, *view, annotations, qparams, data, params, calibration);
  }
  std::vector<BiasRecord> fast(const BiasCorrectionParameters& params = every_shift()) {
    FastBiasCorrection correction(model, *view, annotations, params);
    calibration.extra_taps = correction.taps();
    calibrate(model, *view, {}, data, calibration);
    return correction.apply(model, qparams);
  }
  at::Tensor bias(const std::string& alias) const {
    const auto found = param_of(model, view->find(alias)->node->input(2));
    return found ? found->tensor : at::Tensor();
  }
  /// Mean output over the first samples with quantized weights and the present biases.
  at::Tensor quantized_mean(int64_t samples) const {
    Model copy = model.clone();
    const GraphView copied(copy);
    for (const auto& point : annotations.points) {
      if (point.kind != PointKind::kWeight) continue;
      const auto* edge = copied.input_edge(*copied.find(point.node), 1);
      const auto& q = qparams.at(point.id);
      set_param(copy, edge->use.user, edge->use.offset,
                dequantize(quantize(param_of(copy, edge->value)->tensor, q), q));
    }
    return mean_output(copy, samples);
  }
  at::Tensor mean_output(const Model& which, int64_t samples) const {
    std::vector<at::Tensor> outputs;
    for (int64_t i = 0; i < samples; ++i) outputs.push_back(which.run(data.get(i)).toTensor());
    return at::cat(outputs).mean(0);
  }

  Model model;
  Dataset data;
  std::unique_ptr<GraphView> view;
  Annotations annotations;
  QParamTable qparams;
  CalibrationOptions calibration;
};

const std::vector<std::string> kBiased{"conv2d", "conv2d_2", "linear"};

double distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST(BiasCorrection, RestoresTheMeanOutputOfItsSamples) {
  Prepared setup(network(""), images(30));
  const auto expected = setup.mean_output(setup.model, 5);
  EXPECT_GT(distance(setup.quantized_mean(5), expected), 1e-2);
  const auto records = setup.accurate();
  ASSERT_EQ(records.size(), 3u);  // one layer has no bias
  for (const auto& record : records) EXPECT_TRUE(record.corrected) << record.node;
  // A fifth of 25 samples, all layers before the last corrected: the last bias makes the mean right.
  EXPECT_LT(distance(setup.quantized_mean(5), expected), 1e-5);
  EXPECT_GT(distance(setup.quantized_mean(30), setup.mean_output(setup.model, 30)), 1e-5);
}

TEST(BiasCorrection, ReferenceDecidesWhatIsTakenBack) {
  Prepared collected(network(""), images(30)), simulated(network(""), images(30)), fast(network(""), images(30));
  auto parameters = every_shift();
  collected.accurate(parameters);
  parameters.reference = BiasReference::kSimulated;
  simulated.accurate(parameters);
  fast.calibration.subset_size = 5;
  fast.fast({false, 1e9, BiasReference::kSimulated, 0.0});
  // The first layer has no errors before it: all agree. Later ones do not.
  EXPECT_LT(distance(collected.bias("conv2d"), simulated.bias("conv2d")), 1e-5);
  EXPECT_LT(distance(fast.bias("conv2d"), simulated.bias("conv2d")), 1e-5);
  EXPECT_GT(distance(collected.bias("linear"), simulated.bias("linear")), 1e-3);
  EXPECT_GT(distance(fast.bias("linear"), simulated.bias("linear")), 1e-5);
}

TEST(BiasCorrection, BranchesGiveTheSameBiases) {
  Prepared straight(network(""), images(30)), branch(network("if x.size(0) > 0:"), images(30));
  ASSERT_NE(branch.view->find("conv2d")->block, branch.model.graph()->block());
  const auto expected = straight.accurate(), records = branch.accurate();
  ASSERT_EQ(records.size(), expected.size());
  for (const auto& alias : kBiased) EXPECT_LT(distance(straight.bias(alias), branch.bias(alias)), 1e-5) << alias;
}

TEST(BiasCorrection, LeavesLayersThatNoSampleReaches) {
  Prepared setup(network("if x.size(0) > 1:"), images(30));
  EXPECT_TRUE(setup.accurate().empty());
  EXPECT_TRUE(setup.fast().empty());
}

TEST(BiasCorrection, LoopsAverageOverTheirPasses) {
  const std::string source =
      "def forward(self, x):\n    y = torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1])\n    for i in "
      "range(x.size(2)):\n"
      "        y = torch.relu(torch.conv2d(x * float(i), self.w1, self.b1, [1, 1], [1, 1]))\n    return y\n";
  Prepared setup(source, images(10));
  for (const auto& record : setup.accurate()) EXPECT_TRUE(record.corrected) << record.node;
  EXPECT_FALSE(at::equal(setup.bias("conv2d"), setup.bias("conv2d_1")));  // one shared parameter, two corrections
}

TEST(BiasCorrection, LayersWithoutBiasGetOne) {
  for (const bool fast : {true, false}) {
    Prepared without(network(""), images(30)), with(network(""), images(30));
    EXPECT_EQ((fast ? without.fast() : without.accurate()).size(), 3u);
    EXPECT_FALSE(without.bias("conv2d_1").defined());
    auto parameters = every_shift();
    parameters.apply_for_all_nodes = true;
    const auto expected = with.mean_output(with.model, 5);
    EXPECT_EQ((fast ? with.fast(parameters) : with.accurate(parameters)).size(), 4u);
    ASSERT_TRUE(with.bias("conv2d_1").defined());
    EXPECT_EQ(with.bias("conv2d_1").numel(), 8);
    EXPECT_GT(with.bias("conv2d_1").abs().max().item<double>(), 0);
    if (!fast) {
      EXPECT_LT(distance(with.quantized_mean(5), expected), 1e-5);
    }
  }
}

TEST(BiasCorrection, ThresholdKeepsBiases) {
  for (const bool fast : {true, false}) {
    Prepared setup(network(""), images(30));
    const auto before = setup.bias("linear").clone();
    auto parameters = every_shift();
    parameters.threshold = 0;
    for (const auto& record : fast ? setup.fast(parameters) : setup.accurate(parameters)) {
      EXPECT_FALSE(record.corrected);
      EXPECT_GT(record.magnitude, 0);
    }
    EXPECT_TRUE(at::equal(setup.bias("linear"), before));
  }
}

/// Which of the first layer's biases change with this smallest shift.
at::Tensor changed(bool fast, c10::optional<double> smallest, c10::optional<BiasReference> reference = c10::nullopt) {
  Prepared setup(network(""), images(30));
  const auto before = setup.bias("conv2d").clone();
  const BiasCorrectionParameters parameters{false, 1e9, reference, smallest};
  const auto record = (fast ? setup.fast(parameters) : setup.accurate(parameters)).front();
  const auto result = setup.bias("conv2d").ne(before);
  EXPECT_EQ(record.corrected, result.any().item<bool>());
  EXPECT_EQ(record.noise, !record.corrected);
  return result;
}

TEST(BiasCorrection, ShiftsBelowTheNoiseOfRoundingAreLeftOut) {
  for (const bool fast : {true, false}) {
    Prepared setup(network(""), images(30));
    const auto weight = parameters().front().second, before = setup.bias("conv2d").clone();
    int64_t input_point = -1;
    for (const auto& point : setup.annotations.points) {
      const auto& names = point.quantized_nodes;
      const bool asked = std::find(names.begin(), names.end(), setup.view->find("conv2d")->name) != names.end();
      if (asked && point.kind == PointKind::kActivation) input_point = point.id;
    }
    const double step = setup.qparams.at(input_point).scale.item<double>();
    fast ? setup.fast() : setup.accurate();
    const auto ratio =
        (setup.bias("conv2d") - before).abs() / (weight.flatten(1).norm(2, 1) * (step / std::sqrt(12.0)));
    const double middle = ratio.median().item<double>() * 1.001;
    EXPECT_TRUE(at::equal(changed(fast, middle), ratio.ge(middle)));
    EXPECT_TRUE(at::equal(changed(fast, c10::nullopt), ratio.ge(0.5)));
    EXPECT_FALSE(changed(fast, 1e9).any().item<bool>());
    EXPECT_TRUE(changed(fast, 0).all().item<bool>());
    EXPECT_TRUE(changed(fast, c10::nullopt, BiasReference::kCollected).all().item<bool>()) << "NNCF corrects all";
  }
}

TEST(BiasCorrection, NoiseOfGroupedTransposedConvolutions) {
  // One output channel of four has large weights: only its noise hides the shift.
  const std::string source =
      "def forward(self, x):\n    return torch.conv_transpose2d(x, self.w, self.b, [1, 1], [0, 0], [0, 0], 2)\n";
  at::manual_seed(5);
  const auto weight = at::full({4, 2, 1, 1}, 0.01);
  weight.select(0, 2).select(0, 1).fill_(100);  // read by output channel 3, of the second group
  auto model = Model::from(define(source, {{"w", weight}, {"b", at::ones({4})}}));
  const GraphView view(model);
  BiasLayer layer;
  layer.node = view.find("conv_transpose2d")->node;
  layer.input_point = 7;
  QParams input;
  input.scale = at::full({1}, 0.1);
  const auto shift = without_noise(model, layer, {{7, input}}, {}, at::full({4}, 0.5));
  EXPECT_TRUE(at::equal(shift, torch::tensor({0.5f, 0.5f, 0.5f, 0.0f}))) << shift;
  layer.input_point = c10::nullopt;
  EXPECT_TRUE(at::equal(without_noise(model, layer, {{7, input}}, {}, at::full({4}, 0.5)), at::full({4}, 0.5)))
      << "float inputs make no noise";
}

TEST(BiasCorrection, DefaultThresholds) {
  // Whether the first layer is corrected when one of its biases is very small.
  const auto corrected = [](bool fast, c10::optional<BiasReference> reference, double bias) {
    Prepared prepared(network(""), images(30));
    auto tensor = prepared.bias("conv2d").clone();
    tensor[0] = bias;
    set_param(prepared.model, prepared.view->find("conv2d")->node, 2, tensor);
    auto parameters = every_shift();
    parameters.reference = reference;
    const auto record = (fast ? prepared.fast(parameters) : prepared.accurate(parameters)).front();
    EXPECT_GT(record.magnitude, 2);
    return record.corrected;
  };
  EXPECT_FALSE(corrected(true, BiasReference::kCollected, 1e-3));  // 2
  EXPECT_TRUE(corrected(true, c10::nullopt, 1e-3));
  EXPECT_TRUE(corrected(true, c10::nullopt, 0));
  for (const auto& reference : {c10::optional<BiasReference>(), c10::make_optional(BiasReference::kCollected)}) {
    EXPECT_TRUE(corrected(false, reference, 1e-3));
    EXPECT_FALSE(corrected(false, reference, 1e-9));  // 1000
  }
  EXPECT_TRUE(corrected(false, BiasReference::kSimulated, 1e-9));
}

TEST(BiasCorrection, ThreadsAndBatchesGiveTheSameBiases) {
  const int threads = at::get_num_threads();
  Prepared one(network(""), images(30)), two(network(""), images(30));
  at::set_num_threads(1);
  one.accurate();
  at::set_num_threads(2);
  two.accurate();
  at::set_num_threads(threads);
  for (const auto& alias : kBiased) EXPECT_TRUE(at::equal(one.bias(alias), two.bias(alias))) << alias;
}

TEST(BiasCorrection, CanBeCancelled) {
  Prepared setup(network(""), images(30));
  std::vector<std::string> phases;
  setup.calibration.progress = [&](const std::string& phase, int64_t done, int64_t) {
    phases.push_back(phase);
    return phase != "bias_correction" || done < 2;
  };
  try {
    setup.accurate();
    FAIL() << "not cancelled";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
    EXPECT_NE(std::string(error.what()).find("2 of 3 layers"), std::string::npos) << error.what();
  }
}

TEST(BiasCorrection, StatefulModelsRunPerLayer) {
  // The state of a sample feeds the next: a cut between samples would change it.
  const std::string source =
      "def forward(self, x):\n    y = torch.relu(torch.conv2d(x + self.s.mean(), self.w1, self.b1, [1, 1], [1, 1]))\n"
      "    self.s.copy_(y.mean([0, 2, 3]))\n    return torch.conv2d(y, self.w2, self.b3, [1, 1], [1, 1])\n";
  auto tensors = parameters();
  tensors.emplace_back("s", at::zeros({6}));
  const auto states = define(source, tensors);
  auto model = Model::from(states);
  QuantizePt2eOptions options;
  options.fast_bias_correction = false;
  auto quantizer = four_bits();
  const auto result = quantize_pt2e(model, quantizer, images(10), options);
  EXPECT_EQ(result.report.options.at("bias_correction"), "accurate");
  EXPECT_EQ(result.report.options.at("biases_corrected"), "2 of 2");
  EXPECT_TRUE(at::equal(states.attr("s").toTensor(), at::zeros({6})));
}

TEST(BiasCorrection, QuantizePt2eRunsTheAlgorithmThatIsAskedFor) {
  std::map<std::string, at::Tensor> biases;
  for (const auto& [name, choice] :
       std::map<std::string, c10::optional<bool>>{{"none", c10::nullopt}, {"fast", true}, {"accurate", false}}) {
    auto model = Model::from(define(network(""), parameters()));
    QuantizePt2eOptions options;
    options.fast_bias_correction = choice;
    auto quantizer = four_bits();
    const auto result = quantize_pt2e(model, quantizer, images(20), options);
    EXPECT_EQ(result.report.options.at("bias_correction"), !choice ? "none" : *choice ? "fast" : "accurate");
    biases[name] = result.model.module().attr("b4").toTensor();
  }
  EXPECT_TRUE(at::equal(biases["none"], parameters().back().second));
  EXPECT_GT(distance(biases["none"], biases["fast"]), 1e-4);
  EXPECT_GT(distance(biases["fast"], biases["accurate"]), 1e-4);
}

}  // namespace
}  // namespace tsquant::testing
