#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <thread>

#include "flows/accuracy_control/evaluator.h"
#include "flows/accuracy_control/quantizer_groups.h"
#include "flows/accuracy_control/ranker.h"
#include "flows/accuracy_control/restorer.h"
#include "flows/accuracy_control/tuner.h"
#include "support/thrown_error.h"
#include "tsquant/distributed.h"
#include "tsquant/quantize.h"
#include "tsquant/xnnpack_quantizer.h"
#include "unit/flows/damaged_net.h"

namespace tsquant::testing::accuracy_options_test {
namespace {

using Strings = std::vector<std::string>;
using Indices = std::vector<int64_t>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Attempt {
  Model model = Model::from(damaged_net(300));
  Dataset calibration = pictures(12, 5), validation = pictures(20, 6);
  AccuracyControlOptions control;
  QuantizePt2eOptions options;
  OpenVINOQuantizerOptions quantizer_options;
  ValidationFn function = accuracy(labels_of(model, validation));

  AccuracyControlResult operator()() {
    OpenVINOQuantizer quantizer(quantizer_options);
    return quantize_pt2e_with_accuracy_control(model, quantizer, calibration, validation, function, control, options);
  }
  std::string message() {
    const Error error = thrown_error([&] { (*this)(); });
    return std::string(to_string(error.code())) + ": " + error.what();
  }
};

/// Minus the mean distance of the outputs from the float network's, so that small improvements count.
ValidationFn closeness(const Model& model, const Dataset& data) {
  std::vector<at::Tensor> expected;
  for (int64_t i = 0; i < data.length(); ++i) expected.push_back(model.run(data.get(i)).toTensor());
  return [expected](ValidationModel& candidate, const Dataset& samples, const Indices& indices) {
    std::vector<double> values;
    double sum = 0;
    for (int64_t i : indices) {
      values.push_back(-(scores(candidate, samples, i) - expected[i]).norm().item<double>());
      sum += values.back();
    }
    return ValidationResult(sum / static_cast<double>(indices.size()), values);
  };
}

TEST(AccuracyOptions, WrongValuesAreNamed) {
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos ? ::testing::AssertionSuccess() : ::testing::AssertionFailure() << text;
  };
  Attempt negative;
  negative.control.max_drop = -0.1;
  EXPECT_TRUE(has(negative.message(), "invalid_argument: max_drop is -0.1"));
  Attempt nan;
  nan.control.max_drop = std::nan("");
  EXPECT_TRUE(has(nan.message(), "max_drop is nan"));
  Attempt iterations;
  iterations.control.advanced_accuracy_restorer_parameters.max_num_iterations = -1;
  EXPECT_TRUE(has(iterations.message(), "max_num_iterations is -1"));
  Attempt subset;
  subset.control.advanced_accuracy_restorer_parameters.ranking_subset_size = 0;
  EXPECT_TRUE(has(subset.message(), "ranking_subset_size is 0"));
  Attempt workers;
  workers.control.advanced_accuracy_restorer_parameters.num_ranking_workers = 0;
  EXPECT_TRUE(has(workers.message(), "num_ranking_workers is 0"));
  Attempt none;
  none.function = {};
  EXPECT_TRUE(has(none.message(), "no validation function"));
  Attempt empty;
  empty.validation = Dataset(0, [](int64_t) { return Sample{}; });
  EXPECT_TRUE(has(empty.message(), "dataset: the validation data set is empty"));
}

/// Never asked: the combination is refused before.
class NoExchange : public StatisticsExchange {
 public:
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 1; }
  std::vector<std::vector<at::Tensor>> all_gather(const std::vector<at::Tensor>&) override {
    ADD_FAILURE() << "was used";
    return {};
  }
};

TEST(AccuracyOptions, CombinationsWithoutEffectAreRefused) {
  Attempt exchange;
  exchange.options.exchange = std::make_shared<NoExchange>();
  EXPECT_NE(exchange.message().find("invalid_argument: accuracy control does not run across processes"),
            std::string::npos)
      << exchange.message();
  Attempt xnnpack;
  xnnpack.control.advanced_accuracy_restorer_parameters.convert_to_mixed_preset = true;
  const auto message = [](Attempt& run, Quantizer& quantizer) {
    return std::string(thrown_error([&] {
                         quantize_pt2e_with_accuracy_control(run.model, quantizer, run.calibration, run.validation,
                                                             run.function, run.control, run.options);
                       }).what());
  };
  XNNPACKQuantizer quantizer;
  quantizer.set_global(get_symmetric_quantization_config());
  EXPECT_NE(message(xnnpack, quantizer).find("convert_to_mixed_preset is set, but only OpenVINOQuantizer has presets"),
            std::string::npos);
  Attempt fp8;
  fp8.control.advanced_accuracy_restorer_parameters.convert_to_mixed_preset = true;
  fp8.quantizer_options.mode = QuantizationMode::kFP8E4M3;
  EXPECT_NE(
      fp8.message().find("convert_to_mixed_preset is set, but the mixed preset cannot be combined with an fp8 mode"),
      std::string::npos)
      << fp8.message();
}

TEST(AccuracyOptions, TuningWithAnotherQuantizerSaysWhatItLeavesOut) {
  Attempt run;
  run.control.max_drop = 0;
  run.control.advanced_accuracy_restorer_parameters.max_num_iterations = 0;
  const auto warned = [&](bool tune) {
    run.control.advanced_accuracy_restorer_parameters.tune_hyperparams = tune;
    XNNPACKQuantizer quantizer;
    quantizer.set_global(get_symmetric_quantization_config());
    const auto result = quantize_pt2e_with_accuracy_control(run.model, quantizer, run.calibration, run.validation,
                                                            run.function, run.control, run.options);
    const auto& warnings = result.quantized.report.warnings;
    return std::any_of(warnings.begin(), warnings.end(), [](const auto& text) {
      return text.find("tune_hyperparams did not search the propagation rule and the preset") == 0;
    });
  };
  EXPECT_TRUE(warned(true));
  EXPECT_FALSE(warned(false));
}

TEST(AccuracyOptions, WhatTheValidationFunctionReturnsIsChecked) {
  Attempt few;
  few.function = [](ValidationModel&, const Dataset&, const Indices&) {
    return ValidationResult(1.0, std::vector<double>{1.0});
  };
  EXPECT_NE(few.message().find("returned 1 values for 20 samples"), std::string::npos) << few.message();
  Attempt outputs;
  outputs.function = [](ValidationModel&, const Dataset&, const Indices&) {
    return ValidationResult(1.0, std::vector<std::vector<at::Tensor>>(3));
  };
  EXPECT_NE(outputs.message().find("returned 3 outputs for 20 samples"), std::string::npos) << outputs.message();
  Attempt not_finite;
  not_finite.function = [](ValidationModel&, const Dataset&, const Indices&) -> ValidationResult {
    return std::nan("");
  };
  EXPECT_NE(not_finite.message().find("no finite metric for the float model"), std::string::npos);
  Attempt ranking;
  ranking.control.advanced_accuracy_restorer_parameters.ranking_fn = [](const auto&, const auto&) { return 0.0; };
  EXPECT_NE(ranking.message().find("ranking_fn compares outputs"), std::string::npos) << ranking.message();
}

TEST(AccuracyOptions, RankingFnDecidesTheOrder) {
  Attempt run;
  run.function = accuracy_and_outputs(labels_of(run.model, run.validation));
  run.control.max_drop = 0.05;
  run.control.advanced_accuracy_restorer_parameters.max_num_iterations = 1;
  const auto by_default = run();
  run.control.advanced_accuracy_restorer_parameters.ranking_fn = [](const auto& reference, const auto& approximate) {
    return -normalized_mse(reference, approximate);
  };
  const auto reversed = run();
  EXPECT_EQ(by_default.steps.at(0).operators, Strings{kDamaged});
  EXPECT_NE(reversed.steps.at(0).operators, Strings{kDamaged});
}

TEST(AccuracyOptions, MixedPresetIsTriedBeforeReverting) {
  Attempt run;
  // Activations from -1 up to large values: half of the symmetric codes are never used.
  run.model =
      Model::from(define("def forward(self, x):\n  y = torch.elu(torch.linear(x, self.w1, self.b1))\n"
                         "  return torch.linear(y, self.w2)\n",
                         {{"w1", at::randn({16, 16})}, {"b1", at::full({16}, 1.0)}, {"w2", at::randn({4, 16})}}));
  const auto rows = [](uint64_t seed) {
    at::manual_seed(seed);
    std::vector<at::Tensor> tensors;
    for (int i = 0; i < 20; ++i) tensors.push_back(at::rand({1, 16}));
    return Dataset::from_tensors(tensors);
  };
  run.calibration = rows(1);
  run.validation = rows(2);
  run.function = closeness(run.model, run.validation);
  run.control.max_drop = 0;
  run.control.advanced_accuracy_restorer_parameters.max_num_iterations = 0;
  const auto symmetric = run();
  EXPECT_TRUE(symmetric.tuned.empty());
  run.control.advanced_accuracy_restorer_parameters.convert_to_mixed_preset = true;
  const auto mixed = run();
  EXPECT_EQ(mixed.tuned, (std::map<std::string, std::string>{{"preset", "mixed"}}));
  EXPECT_GT(mixed.final_metric, symmetric.final_metric);
  EXPECT_EQ(mixed.quantized_metric, symmetric.quantized_metric);
  EXPECT_EQ(mixed.quantized.report.options.at("tuned_preset"), "mixed");
  run.quantizer_options.preset = QuantizationPreset::kMixed;
  EXPECT_TRUE(run().tuned.empty()) << "it is mixed already";
}

TEST(AccuracyOptions, TuningFindsAnEstimatorThatForgetsOutliers) {
  Attempt run;
  run.model = Model::from(damaged_net(1));
  at::manual_seed(9);
  std::vector<at::Tensor> spoiled;
  for (int i = 0; i < 12; ++i) {
    spoiled.push_back(at::randn({1, 3, 24, 24}));
    spoiled.back().view(-1)[7] = 500;  // one broken pixel in each picture
  }
  run.calibration = Dataset::from_tensors(spoiled);
  run.function = closeness(run.model, run.validation);
  run.control.max_drop = 0;
  run.control.advanced_accuracy_restorer_parameters.max_num_iterations = 0;
  const auto plain = run();
  EXPECT_TRUE(plain.tuned.empty());
  EXPECT_EQ(plain.seconds.count("tune"), 0u);
  run.control.advanced_accuracy_restorer_parameters.tune_hyperparams = true;
  const auto tuned = run();
  EXPECT_NE(tuned.tuned.at("activations_range_estimator_params").find("quantile"), std::string::npos);
  EXPECT_GT(tuned.final_metric, plain.final_metric);
  EXPECT_GT(tuned.seconds.at("tune"), 0);
  EXPECT_EQ(tuned.quantized.report.options.count("tuned_activations_range_estimator_params"), 1u);
}

TEST(AccuracyOptions, TheArgumentsOfNncfsFunctionAreUsed) {
  Attempt run;
  QuantizeOptions options;
  options.subset_size = 5;
  options.form = OutputForm::kReference;
  options.ignored_scope.names = {"/linear/0"};
  options.advanced_parameters.disable_bias_correction = true;
  run.control.max_drop = 0.05;
  run.control.advanced_accuracy_restorer_parameters.max_num_iterations = 1;
  run.function = accuracy_and_outputs(labels_of(run.model, run.validation));
  const auto result =
      quantize_with_accuracy_control(run.model, run.calibration, run.validation, run.function, run.control, options);
  ASSERT_EQ(result.steps.size(), 1u);
  EXPECT_EQ(result.steps[0].operators, Strings{kDamaged});
  const Report& report = result.quantized.report;
  EXPECT_EQ(report.form, "reference");
  EXPECT_EQ(report.samples, 5);
  EXPECT_EQ(report.options.count("biases_corrected"), 0u);
  std::map<std::string, std::string> codes;
  for (const auto& node : report.nodes) codes[node.name] = node.code;
  EXPECT_EQ(codes.at("/linear/0"), "ignored");
  EXPECT_EQ(codes.at(kDamaged), result.reverted.empty() ? "quantized" : "reverted");
}

TEST(Tuner, GridsFollowTheSettings) {
  const auto names = [](const TunedSettings& settings) {
    Strings result;
    for (const auto& grid : parameter_grids(settings)) result.push_back(grid.name);
    return result;
  };
  TunedSettings settings{std::make_shared<XNNPACKQuantizer>(), {}};
  EXPECT_EQ(names(settings),
            (Strings{"weights_range_estimator_params", "activations_range_estimator_params", "fast_bias_correction"}));
  settings.quantizer = std::make_shared<OpenVINOQuantizer>();
  settings.options.smooth_quant = true;
  settings.options.fast_bias_correction = c10::nullopt;
  EXPECT_EQ(names(settings), (Strings{"smooth_quant_matmul", "quantizer_propagation_rule", "preset",
                                      "weights_range_estimator_params", "activations_range_estimator_params"}));
  EXPECT_EQ(parameter_grids(settings)[0].values.size(), 5u);
  EXPECT_EQ(parameter_grids(settings)[4].values.size(), 9u);
}

TEST(Tuner, EveryValueOfTheGridsChangesTheSettings) {
  TunedSettings settings{std::make_shared<OpenVINOQuantizer>(), {}};
  settings.options.smooth_quant = true;
  std::set<std::string> seen;
  for (const auto& grid : parameter_grids(settings)) {
    for (const auto& value : grid.values) {
      TunedSettings changed = settings;
      value.apply(changed);
      const auto& options = changed.options;
      const auto bound = [](const StatisticsCollectorParameters& p) {
        return std::to_string(p.statistics_type ? static_cast<int>(*p.statistics_type) : -1) + "," +
               std::to_string(p.aggregator_type ? static_cast<int>(*p.aggregator_type) : -1) + "," +
               std::to_string(p.quantile_outlier_prob);
      };
      seen.insert(
          grid.name + std::to_string(options.smooth_quant_params.matmul) +
          changed.quantizer->describe().options.at("quantizer_propagation_rule") +
          std::to_string(changed.quantizer == settings.quantizer) + changed.quantizer->describe().options.at("preset") +
          bound(options.weights_range_estimator_params.min) + bound(options.weights_range_estimator_params.max) +
          bound(options.activations_range_estimator_params.min) +
          bound(options.activations_range_estimator_params.max) + std::to_string(*options.fast_bias_correction));
    }
  }
  EXPECT_EQ(seen.size(), 5u + 1 + 2 + 1 + 9 + 2);
}

TEST(Tuner, SearchesOneParameterAfterTheOther) {
  TunedSettings settings;
  const auto subset = [](int64_t size) { return [size](TunedSettings& s) { s.options.subset_size = size; }; };
  const auto alpha = [](double a) { return [a](TunedSettings& s) { s.options.smooth_quant_params.matmul = a; }; };
  const std::vector<ParameterGrid> grids{{"subset_size", {{"1", subset(1)}, {"2", subset(2)}, {"3", subset(3)}}},
                                         {"alpha", {{"0.1", alpha(0.1)}, {"0.2", alpha(0.2)}}}};
  std::vector<std::pair<int64_t, double>> tried;
  const auto choices = tune(settings, 0.5, grids, [&](const TunedSettings& s) {
    tried.emplace_back(s.options.subset_size, s.options.smooth_quant_params.matmul);
    if (s.options.subset_size == 3) return std::nan("");
    return s.options.subset_size == 2 && s.options.smooth_quant_params.matmul > 0.5 ? 0.9 : 0.5;
  });
  EXPECT_EQ(tried, (std::vector<std::pair<int64_t, double>>{{1, 0.95}, {2, 0.95}, {3, 0.95}, {2, 0.1}, {2, 0.2}}));
  ASSERT_EQ(choices.size(), 1u);
  EXPECT_EQ(choices[0].parameter + "=" + choices[0].value, "subset_size=2");
  EXPECT_EQ(settings.options.subset_size, 2);
  EXPECT_EQ(settings.options.smooth_quant_params.matmul, 0.95);
}

TEST(DropLimit, AbsoluteAndRelative) {
  const DropLimit absolute{0.9, 0.01, DropType::kAbsolute};
  EXPECT_TRUE(absolute.met(0.89)) << "the limit itself, whatever binary fractions say";
  EXPECT_FALSE(absolute.met(0.8899));
  EXPECT_TRUE(absolute.met(0.95));
  EXPECT_LT(absolute.drop(0.95), 0);
  const DropLimit relative{-2, 0.1, DropType::kRelative};
  EXPECT_NEAR(relative.drop(-2.2), 0.1, 1e-12);
  EXPECT_TRUE(relative.met(-2.2));
  EXPECT_FALSE(relative.met(-2.3));
  const DropLimit zero{0, 0.1, DropType::kRelative};
  EXPECT_EQ(zero.drop(-1), kInfinity);
  EXPECT_EQ(zero.drop(0), 0);
  EXPECT_FALSE(zero.met(-kInfinity));
}

TEST(Evaluator, NormalisedError) {
  const auto t = [](std::vector<float> values) { return at::tensor(values); };
  EXPECT_DOUBLE_EQ(normalized_mse({t({3, 4})}, {t({3, 5})}), 1.0 / 25);
  EXPECT_DOUBLE_EQ(normalized_mse({t({3, 4}), t({1})}, {t({3, 5}), t({2})}), (1.0 / 25 + 1) / 2);
  EXPECT_EQ(normalized_mse({t({0})}, {t({0})}), 0);
  EXPECT_EQ(normalized_mse({t({0})}, {t({1})}), kInfinity);
  EXPECT_EQ(thrown_error([&] { normalized_mse({t({1, 2})}, {t({1})}); }).code(), ErrorCode::kInvalidArgument);
}

TEST(Evaluator, LargestErrorsInOrder) {
  EXPECT_EQ(largest_errors({0.5, 0.1, 0.9, 0.7}, 2), (Indices{2, 3}));
  EXPECT_EQ(largest_errors({1, 1, 1}, 2), (Indices{1, 2}));
  EXPECT_EQ(largest_errors({0.5, 0.1}, 9), (Indices{0, 1}));
  EXPECT_EQ(largest_errors({0.5, std::nan(""), 0.1}, 1), (Indices{1}));
}

TEST(Ranker, DefaultNumberOfWorkers) {
  const int64_t gigabyte = int64_t{1} << 30;
  const auto workers = [&](double conversion, double validation, int64_t bytes, int64_t cores) {
    return default_ranking_workers(conversion, validation, 100, 50, bytes, {cores, 16 * gigabyte});
  };
  EXPECT_EQ(workers(0.5, 1, 1000, 64), 1) << "converting takes less than a second";
  EXPECT_EQ(workers(2, 4, 1000, 64), 4) << "(2 s / 2 s of ranking + 1) * 2";
  EXPECT_EQ(workers(6, 4, 1000, 64), 8);
  EXPECT_EQ(workers(6, 4, 1000, 6), 3) << "half of the cores";
  EXPECT_EQ(workers(6, 4, 1000, 1), 1);
  EXPECT_EQ(workers(6, 4, 2 * gigabyte, 64), 3) << "four copies of four gigabytes fit, one is the model itself";
  EXPECT_EQ(workers(6, 4, 100 * gigabyte, 64), 1) << "no memory for copies";
  EXPECT_GT(this_machine().cores, 0);
  EXPECT_GT(this_machine().free_bytes, 0);
}

}  // namespace
}  // namespace tsquant::testing::accuracy_options_test
