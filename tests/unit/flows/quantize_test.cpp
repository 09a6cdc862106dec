#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "unit/flows/small_net.h"

namespace tsquant::testing::quantize_test {
namespace {

TEST(Quantize, DefaultsAreThoseOfQuantizePt2e) {
  const auto setup = make_quantize_setup({});
  EXPECT_EQ(setup.options.subset_size, 300);
  EXPECT_EQ(setup.options.fast_bias_correction, c10::optional<bool>(true));
  EXPECT_FALSE(setup.options.smooth_quant);
  EXPECT_FALSE(setup.options.channel_alignment);
  EXPECT_TRUE(setup.warnings.empty());
  const auto result = run();
  EXPECT_EQ(result.report.form, "decomposed");
  // NNCF's default for fewer than 100 samples: the mean of the samples' largest magnitudes, symmetric around zero.
  double sum = 0;
  for (const auto& image : images()) sum += image.abs().max().item<double>();
  const auto& input = first(result, "activation");
  EXPECT_NEAR(std::max(-input.min, input.max), sum / static_cast<double>(images().size()), 1e-5);
  const auto& weight = first(result, "weight");
  const auto w1 = net().attr("w1").toTensor();
  ASSERT_EQ(static_cast<int64_t>(weight.scale.size()), w1.size(0)) << "per channel";
  EXPECT_EQ(weight.quant_max, 127);
}

TEST(Quantize, ArgumentsReachTheFlow) {
  EXPECT_EQ(run(with([](auto& o, auto&) { o.subset_size = 2; })).report.samples, 2);
  const auto zero_points = [](const QuantizedModel& result) {
    int64_t sum = 0;
    for (const auto& record : result.report.quantizers) {
      for (int64_t zero_point : record.zero_point) sum += std::abs(zero_point);
    }
    return sum;
  };
  const auto mixed = run(with([](auto& o, auto&) { o.preset = QuantizationPreset::kMixed; }));
  EXPECT_GT(zero_points(mixed), zero_points(run()));
  const auto e5m2 = run(with([](auto& o, auto&) { o.mode = QuantizationMode::kFP8E5M2; }));
  EXPECT_EQ(first(e5m2, "weight").dtype, "f8e5m2");
  const auto ignored = run(with([](auto& o, auto&) { o.ignored_scope.types = {"linear"}; }));
  EXPECT_LT(ignored.report.quantized_count(), run().report.quantized_count());
  EXPECT_EQ(
      make_quantize_setup(with([](auto& o, auto&) { o.fast_bias_correction = false; })).options.fast_bias_correction,
      c10::optional<bool>(false));
  for (const auto form : {OutputForm::kReference, OutputForm::kFakeQuantize}) {
    EXPECT_NE(run(with([&](auto& o, auto&) { o.form = form; })).report.form, "decomposed");
  }
  auto model = Model::from(net());
  quantize(model, Dataset::from_tensors(images()), with([](auto& o, auto&) { o.do_copy = false; }));
  EXPECT_EQ(model.module().attr("w1").toTensor().scalar_type(), c10::kChar);
  int64_t calls = 0;
  run(with([&](auto& o, auto&) { o.progress = [&](const std::string&, int64_t, int64_t) { return ++calls > 0; }; }));
  EXPECT_GT(calls, 6);
  const auto scales = [](TargetDevice target) {
    const auto result = run(with([=](auto& o, Advanced& a) {
      o.target_device = target;
      a.weights_quantization_params.num_bits = 4;  // with 8 bits NNCF takes the table of CPU for the NPU too
    }));
    std::vector<double> all;
    for (const auto& record : result.report.quantizers) {
      if (record.kind == "activation") all.push_back(record.scale[0]);
    }
    return all;
  };
  EXPECT_NE(scales(TargetDevice::kNpu), scales(TargetDevice::kCpu)) << "the NPU adds tensors of one scale";
}

TEST(Quantize, EveryAdvancedFieldIsHonoured) {
  const auto plain = run();
  const auto bound = [](const QuantizedModel& result) { return first(result, "weight").scale[0]; };
  // Half of the levels: scales twice as large.
  const auto fix = run(with([](auto&, Advanced& a) { a.overflow_fix = OverflowFix::kDisable; }));
  EXPECT_NEAR(bound(plain) / bound(fix), 2, 0.05);
  EXPECT_GT(run(with([](auto&, Advanced& a) { a.quantize_outputs = true; })).report.quantizers.size(),
            plain.report.quantizers.size());
  const auto no_bias = run(with([](auto&, Advanced& a) { a.disable_bias_correction = true; }));
  EXPECT_EQ(plain.report.options.count("biases_corrected"), 1u);
  EXPECT_EQ(no_bias.report.options.count("biases_corrected"), 0u);
  EXPECT_FALSE(at::equal(output(no_bias), output(plain)));
  const auto small = run(with([](auto&, Advanced& a) { a.bias_correction_params.threshold = 0; }));
  EXPECT_NE(small.report.options.at("biases_corrected"), plain.report.options.at("biases_corrected"));
  const auto batch = [](bool item) {
    const auto options = with([=](auto&, Advanced& a) {
      a.batchwise_statistics = item;
      a.activations_range_estimator_params = RangeEstimatorParameters::mean_minmax();
    });
    return first(run(options, 4), "activation").scale[0];
  };
  EXPECT_LT(batch(true), batch(false));
  const auto four = run(with([](auto& o, Advanced& a) {
    o.target_device = TargetDevice::kNpu;
    a.weights_quantization_params.num_bits = 4;
  }));
  EXPECT_EQ(first(four, "weight").quant_max, 7);
  const auto asymmetric =
      run(with([](auto&, Advanced& a) { a.activations_quantization_params.mode = QuantizationScheme::kAsymmetric; }));
  EXPECT_EQ(first(asymmetric, "activation").dtype, "quint8");
  const auto wide =
      run(with([](auto&, Advanced& a) { a.activations_range_estimator_params = RangeEstimatorParameters::minmax(); }));
  EXPECT_GT(first(wide, "activation").scale[0], first(plain, "activation").scale[0]);
  const auto narrow = run(with([](auto&, Advanced& a) {
    a.weights_range_estimator_params.max = {StatisticsType::kAbsQuantile, AggregatorType::kMax, c10::nullopt, 0.1};
  }));
  EXPECT_LT(bound(narrow), bound(plain));
  const auto rule = make_quantize_setup(
      with([](auto&, Advanced& a) { a.quantizer_propagation_rule = QuantizerPropagationRule::kDoNotMergeBranches; }));
  EXPECT_EQ(rule.quantizer.quantizer_propagation_rule, QuantizerPropagationRule::kDoNotMergeBranches);
  EXPECT_GT(run(with([](auto&, Advanced& a) {
              a.quantizer_propagation_rule = QuantizerPropagationRule::kDoNotMergeBranches;
            })).report.quantizers.size(),
            plain.report.quantizers.size());
  const auto aligned = run(with([](auto&, Advanced& a) { a.disable_channel_alignment = false; }));
  EXPECT_EQ(aligned.report.options.at("pairs_aligned"), "0 of 0") << "both convolutions pad";
  EXPECT_EQ(plain.report.options.count("pairs_aligned"), 0u);
  const auto collected =
      run(with([](auto&, Advanced& a) { a.bias_correction_params.reference = BiasReference::kCollected; }));
  EXPECT_FALSE(at::equal(output(collected), output(plain)));
}

TEST(Quantize, SmoothQuantIsForTransformers) {
  const auto setup = [](const auto& change) { return make_quantize_setup(with(change)); };
  const auto transformer = [](auto& o) { o.model_type = ModelType::kTransformer; };
  EXPECT_FALSE(setup([](auto&, Advanced& a) { a.smooth_quant_alphas.matmul = 0.5; }).options.smooth_quant);
  const auto on = setup([&](auto& o, Advanced& a) {
    transformer(o);
    a.smooth_quant_alphas = {0.3, 0.5};
  });
  EXPECT_TRUE(on.options.smooth_quant);
  EXPECT_EQ(on.options.smooth_quant_params.convolution, 0.3);
  EXPECT_EQ(on.options.smooth_quant_params.matmul, 0.5);
  EXPECT_FALSE(setup([&](auto& o, Advanced& a) {
                 transformer(o);
                 a.smooth_quant_alphas = {-1, -1};
               }).options.smooth_quant);
  const auto old = setup([&](auto& o, Advanced& a) {
    transformer(o);
    a.smooth_quant_alphas = {0.3, 0.5};
    a.smooth_quant_alpha = 0.7;
  });
  EXPECT_EQ(old.options.smooth_quant_params.matmul, 0.7);
  EXPECT_EQ(old.options.smooth_quant_params.convolution, 0.3);
  ASSERT_EQ(old.warnings.size(), 1u);
  EXPECT_NE(old.warnings[0].find("deprecated"), std::string::npos);
  EXPECT_FALSE(setup([&](auto& o, Advanced& a) {
                 transformer(o);
                 a.smooth_quant_alphas.convolution = 0.3;
                 a.smooth_quant_alpha = -1;
               }).options.smooth_quant);
  const auto result = run(with([&](auto&, Advanced& a) { a.smooth_quant_alpha = 0.7; }));
  const auto& warnings = result.report.warnings;
  EXPECT_TRUE(std::any_of(warnings.begin(), warnings.end(),
                          [](const auto& text) { return text.find("smooth_quant_alpha") != std::string::npos; }));
}

bool has_warning(const QuantizedModel& result, const std::string& text) {
  const auto& warnings = result.report.warnings;
  return std::any_of(warnings.begin(), warnings.end(),
                     [&](const auto& warning) { return warning.find(text) != std::string::npos; });
}

TEST(Quantize, AlphasWithoutATransformerHaveNoEffectAndAreNamed) {
  const std::string reason = " has no effect: SmoothQuant runs for the model type transformer only";
  const auto alphas = run(with([](auto&, Advanced& a) { a.smooth_quant_alphas.matmul = 0.5; }));
  EXPECT_TRUE(has_warning(alphas, "smooth_quant_alphas" + reason));
  const auto convolution = run(with([](auto&, Advanced& a) { a.smooth_quant_alphas.convolution = 0.5; }));
  EXPECT_TRUE(has_warning(convolution, "smooth_quant_alphas" + reason));
  const auto old = run(with([](auto&, Advanced& a) { a.smooth_quant_alpha = 0.5; }));
  EXPECT_TRUE(has_warning(old, "smooth_quant_alpha" + reason));
  EXPECT_FALSE(has_warning(run(), reason));
  EXPECT_FALSE(has_warning(run(with([](auto&, Advanced& a) { a.smooth_quant_alphas = {-1, -1}; })), reason));
  EXPECT_NE(message_of([](auto&, Advanced& a) { a.smooth_quant_alphas.matmul = 1.5; }).find("1.5"), std::string::npos);
}

TEST(Quantize, HistogramsPerChannelBecomeMinMaxWithAWarning) {
  const auto plain = run();
  const auto weights =
      run(with([](auto&, Advanced& a) { a.weights_range_estimator_params = RangeEstimatorParameters::histogram(); }));
  EXPECT_TRUE(has_warning(weights, "weights_range_estimator_params: a histogram gives one range per tensor; "));
  EXPECT_EQ(first(weights, "weight").scale, first(plain, "weight").scale);
  const auto per_tensor = run(with([](auto&, Advanced& a) {
    a.weights_range_estimator_params = RangeEstimatorParameters::histogram();
    a.weights_quantization_params.per_channel = false;
  }));
  EXPECT_FALSE(has_warning(per_tensor, "a histogram gives one range"));
  const auto extremes = run(with([](auto&, Advanced& a) { a.weights_quantization_params.per_channel = false; }));
  EXPECT_NE(first(per_tensor, "weight").scale, first(extremes, "weight").scale);
}

TEST(Quantize, BackendParametersByName) {
  const auto with_params = [](std::map<std::string, std::string> params) {
    return with([&](auto&, Advanced& a) { a.backend_params = params; });
  };
  EXPECT_EQ(run(with_params({{"form", "reference"}})).report.form, "reference");
  const auto lowered = run(with_params({{"form", "lowered"}, {"engine", "tsquant"}}));
  EXPECT_EQ(lowered.report.engine, "tsquant");
  const auto unfolded = run(with_params({{"compress_weights", "false"}}));
  EXPECT_EQ(unfolded.model.module().attr("w1").toTensor().scalar_type(), c10::kFloat);
  const auto message = [](std::map<std::string, std::string> params, c10::optional<OutputForm> form = c10::nullopt) {
    return message_of([&](auto& o, Advanced& a) {
      o.form = form;
      a.backend_params = params;
    });
  };
  EXPECT_NE(message({{"stat_requests", "1"}}).find("unknown backend parameter \"stat_requests\""), std::string::npos);
  EXPECT_NE(message({{"form", "onnx"}}).find("unknown form \"onnx\""), std::string::npos);
  EXPECT_NE(message({{"compress_weights", "1"}}).find("is no truth value"), std::string::npos);
  EXPECT_NE(message({{"form", "lowered"}}, OutputForm::kReference).find("given twice"), std::string::npos);
  EXPECT_NE(message({{"engine", "onednn"}}).find("engine is set, but the decomposed form has no kernels"),
            std::string::npos);
}

TEST(Quantize, ValuesThatDoNotGoTogether) {
  const auto contains = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  contains(message_of([](auto& o, auto&) { o.subset_size = 0; }), "subset_size is 0");
  contains(message_of([](auto& o, Advanced& a) {
             o.mode = QuantizationMode::kFP8E4M3;
             a.overflow_fix = OverflowFix::kFirstLayer;
           }),
           "the overflow fix does not go together with an fp8 mode");
  contains(message_of([](auto&, Advanced& a) {
             a.weights_quantization_params.num_bits = 4;
             a.overflow_fix = OverflowFix::kFirstLayer;
           }),
           "bit widths other than 8");
  contains(message_of([](auto& o, auto&) {
             o.mode = QuantizationMode::kFP8E4M3;
             o.preset = QuantizationPreset::kMixed;
           }),
           "mixed preset");
  contains(message_of([](auto& o, auto&) {
             o.mode = QuantizationMode::kFP8E4M3;
             o.target_device = TargetDevice::kNpu;
           }),
           "target device");
  contains(message_of([](auto& o, Advanced& a) {
             o.model_type = ModelType::kTransformer;
             a.smooth_quant_alphas.matmul = 1.5;
           }),
           "1.5");
  contains(
      message_of([](auto&, Advanced& a) { a.weights_quantization_params = FP8QuantizationParameters{FP8Type::kE4M3}; }),
      "fp8 mode");
  contains(message_of([](auto&, Advanced& a) { a.bias_correction_params.threshold = -1; }),
           "bias_correction_params.threshold is -1");
  contains(message_of([](auto&, Advanced& a) { a.bias_correction_params.threshold = std::nan(""); }),
           "bias_correction_params.threshold is nan");
  contains(message_of([](auto&, Advanced& a) { a.bias_correction_params.smallest_shift = -1; }),
           "bias_correction_params.smallest_shift is -1");
  const std::map<std::string, std::function<void(AdvancedBiasCorrectionParameters&)>> unused{
      {"threshold", [](auto& params) { params.threshold = 1; }},
      {"apply_for_all_nodes", [](auto& params) { params.apply_for_all_nodes = true; }},
      {"smallest_shift", [](auto& params) { params.smallest_shift = 1; }},
      {"reference", [](auto& params) { params.reference = BiasReference::kCollected; }}};
  for (const auto& [name, set] : unused) {
    contains(message_of([&set = set](auto&, Advanced& a) {
               a.disable_bias_correction = true;
               set(a.bias_correction_params);
             }),
             "bias_correction_params." + name + " is set, but biases are not corrected");
  }
  contains(message_of([](auto& o, auto&) { o.ignored_scope.names = {"nowhere"}; }), "nowhere");
}

TEST(Quantize, RangesTheWrongWayRoundAreRefused) {
  const auto crossed = [](RangeEstimatorParameters& estimator) {
    estimator.min = {StatisticsType::kMax, AggregatorType::kMax};
    estimator.max = {StatisticsType::kMin, AggregatorType::kMin};
  };
  const auto activations = message_of([&](auto& o, Advanced& a) {
    o.preset = QuantizationPreset::kMixed;
    crossed(a.activations_range_estimator_params);
  });
  EXPECT_NE(activations.find("the range estimator min(max, max, "), std::string::npos) << activations;
  EXPECT_NE(activations.find(" gives a lower bound of "), std::string::npos) << activations;
  EXPECT_NE(activations.find("(at x)"), std::string::npos) << activations;
  const auto weights = message_of([&](auto&, Advanced& a) { crossed(a.weights_range_estimator_params); });
  EXPECT_NE(weights.find("/conv2d/0 input 1"), std::string::npos) << weights;
}

TEST(Quantize, WarnsWhereBatchesMakeBadStatistics) {
  const auto warned = [](const QuantizedModel& result) { return has_warning(result, "batchwise_statistics"); };
  const auto transformer = [](auto& o, Advanced& a) {
    o.model_type = ModelType::kTransformer;
    a.smooth_quant_alphas = {-1, -1};
  };
  EXPECT_TRUE(warned(run(with(transformer), 4)));
  EXPECT_FALSE(warned(run(with(transformer), 1)));
  EXPECT_FALSE(warned(run({}, 4)));
}

TEST(Quantize, InPlaceStatisticsAreTheSameStatistics) {
  const auto kept = run(with([](auto&, Advanced&a) { a.inplace_statistics = false; })), plain = run();
  ASSERT_EQ(kept.report.quantizers.size(), plain.report.quantizers.size());
  for (size_t i = 0; i < plain.report.quantizers.size(); ++i) {
    EXPECT_EQ(kept.report.quantizers[i].scale, plain.report.quantizers[i].scale);
  }
  EXPECT_TRUE(at::equal(output(kept), output(plain)));
}

/// The most bytes that this thread had allocated at one time.
class PeakBytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, int64_t, int64_t, c10::Device) override {
    live_ += size;
    peak_ = std::max(peak_, live_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  /// Bytes above those of the last `start`.
  void start() { base_ = peak_ = live_; }
  int64_t peak() const { return peak_ - base_; }

 private:
  int64_t live_ = 0, peak_ = 0, base_ = 0;
};

int64_t peak_bytes(bool inplace_statistics) {
  std::string code = "def forward(self, x):\n";
  for (int i = 0; i < 12; ++i) code += "    x = torch.relu(torch.conv2d(x, self.w, None, [1, 1], [1, 1]))\n";
  at::manual_seed(1);
  auto model = Model::from(define(code + "    return x\n", {{"w", at::randn({8, 8, 3, 3}) * 0.2}}));
  const auto data = Dataset::from_tensors({at::rand({1, 8, 64, 64})});
  const auto memory = std::make_shared<PeakBytes>();
  int64_t peak = 0;
  const auto options = with([&](auto& o, Advanced& a) {
    a.inplace_statistics = inplace_statistics;
    o.progress = [&](const std::string& phase, int64_t done, int64_t) {
      if (phase == "calibrate" && done == 0) memory->start();
      if (phase == "calibrate" && done == 1) peak = memory->peak();
      return true;
    };
  });
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, memory);
  quantize(model, data, options);
  return peak;
}

TEST(Quantize, InPlaceStatisticsKeepNoActivations) {
  const int64_t activation = 8 * 64 * 64 * 4;
  EXPECT_GT(peak_bytes(false), peak_bytes(true) + 8 * activation) << "twelve activations are kept";
}

TEST(Quantize, WithAccuracyControl) {
  auto model = Model::from(net());
  const auto data = Dataset::from_tensors(images());
  std::vector<at::Tensor> expected;
  for (int64_t i = 0; i < data.length(); ++i) expected.push_back(model.run(data.get(i)).toTensor());
  const auto closeness = [&](ValidationModel& candidate, const Dataset& samples,
                             const std::vector<int64_t>& indices) -> ValidationResult {
    double error = 0;
    for (int64_t i : indices) {
      const auto& reference = expected[static_cast<size_t>(i)];
      error += ((candidate(samples.get(i)).toTensor() - reference).norm() / reference.norm()).item<double>();
    }
    return 1 - error / static_cast<double>(indices.size());
  };
  AccuracyControlOptions control;
  control.max_drop = 1e-6;
  const auto options = with([](auto& o, Advanced& a) {
    o.form = OutputForm::kReference;
    a.smooth_quant_alpha = 0.5;
  });
  const auto result = quantize_with_accuracy_control(model, data, data, closeness, control, options);
  EXPECT_EQ(result.quantized.report.form, "reference");
  EXPECT_FALSE(result.reverted.empty());
  EXPECT_FALSE(result.quantized.report.warnings.empty());
}

}  // namespace
}  // namespace tsquant::testing::quantize_test
