#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <set>
#include <sstream>

#include "support/files.h"
#include "support/thrown_error.h"
#include "unit/flows/damaged_net.h"

namespace tsquant::testing::accuracy_control_test {
namespace {

using Strings = std::vector<std::string>;

constexpr double kOutlier = 300;

struct Case {
  Model model = Model::from(damaged_net(kOutlier));
  Dataset calibration = pictures(24, 5), validation = clear_pictures(model, 60, 6);
  std::vector<int64_t> labels = labels_of(model, validation);
  AccuracyControlOptions control;
  QuantizePt2eOptions options;

  Case() {
    control.max_drop = 0.05;
    control.advanced_accuracy_restorer_parameters.ranking_subset_size = 20;
    options.form = OutputForm::kReference;
  }
  AccuracyControlResult run(const ValidationFn& function) {
    OpenVINOQuantizer quantizer;
    return quantize_pt2e_with_accuracy_control(model, quantizer, calibration, validation, function, control, options);
  }
  AccuracyControlResult run() { return run(accuracy_and_outputs(labels)); }
};

const NodeRecord& node_of(const Report& report, const std::string& name) {
  for (const auto& node : report.nodes) {
    if (node.name == name) return node;
  }
  throw std::out_of_range(name);
}

std::set<std::string> weights_of(const Report& report) {
  std::set<std::string> nodes;
  for (const auto& record : report.quantizers) {
    if (record.kind == "weight") nodes.insert(record.node);
  }
  return nodes;
}

/// Validation whose full runs return these metrics in turn: float model, quantized model, then one per step.
ValidationFn scripted(std::vector<double> metrics, const Case& setup) {
  auto next = std::make_shared<size_t>(0);
  return [=, count = setup.validation.length()](ValidationModel& model, const Dataset& data,
                                                const std::vector<int64_t>& indices) {
    std::vector<std::vector<at::Tensor>> outputs;
    for (int64_t i : indices) outputs.push_back({scores(model, data, i)});
    const bool full = static_cast<int64_t>(indices.size()) == count;
    return ValidationResult(full ? metrics.at(std::min((*next)++, metrics.size() - 1)) : 0.0, outputs);
  };
}

TEST(AccuracyControl, RevertsTheDamagedLayerAndMeetsTheLimit) {
  Case setup;
  const auto result = setup.run();
  EXPECT_EQ(result.initial_metric, 1.0);
  EXPECT_LT(result.quantized_metric, 0.8);
  ASSERT_TRUE(result.limit_met) << result.summary();
  EXPECT_LE(result.initial_metric - result.final_metric, 0.05);
  EXPECT_EQ(result.drop, result.initial_metric - result.final_metric);
  ASSERT_EQ(result.steps.size(), 1u) << result.summary();
  EXPECT_EQ(result.steps[0].operators, Strings{kDamaged});
  EXPECT_EQ(result.reverted, Strings{kDamaged});
  EXPECT_EQ(node_of(result.quantized.report, kDamaged).code, "reverted");
  EXPECT_EQ(weights_of(result.quantized.report), (std::set<std::string>{"/conv2d/0", "/conv2d/2", "/linear/0"}));
  EXPECT_EQ(result.quantized.report.options.at("accuracy_limit_met"), "true");
  for (const char* phase : {"quantize", "validate", "rank", "restore", "total"}) {
    EXPECT_GT(result.seconds.at(phase), 0) << phase;
  }
  EXPECT_NE(result.summary().find("tried in float"), std::string::npos) << result.summary();
  EXPECT_NE(result.summary().find(std::string("returned to float: ") + kDamaged + "\n"), std::string::npos)
      << result.summary();
  EXPECT_NE(result.summary().find("limit met"), std::string::npos);
}

TEST(AccuracyControl, RanksByMetricsToo) {
  Case setup;
  const auto result = setup.run(accuracy(setup.labels));
  ASSERT_TRUE(result.limit_met) << result.summary();
  EXPECT_EQ(result.reverted, Strings{kDamaged});
}

TEST(AccuracyControl, APlainMetricIsMeasuredForEachSample) {
  Case setup;
  int64_t single = 0;
  const auto full = accuracy(setup.labels);
  const auto result = setup.run(
      [&](ValidationModel& model, const Dataset& data, const std::vector<int64_t>& indices) -> ValidationResult {
        single += indices.size() == 1;
        return full(model, data, indices).metric;
      });
  // One to find out, then all samples of the float, the quantized and the reverted model.
  EXPECT_EQ(single, 1 + 3 * setup.validation.length());
  EXPECT_EQ(result.reverted, Strings{kDamaged});
}

TEST(AccuracyControl, AMetricWithoutMeaningForOneSampleRanksByOutputs) {
  Case setup;
  const auto full = accuracy(setup.labels);
  const auto result = setup.run(
      [&](ValidationModel& model, const Dataset& data, const std::vector<int64_t>& indices) -> ValidationResult {
        if (indices.size() < 2) throw std::runtime_error("needs two samples");
        return full(model, data, indices).metric;
      });
  ASSERT_TRUE(result.limit_met) << result.summary();
  EXPECT_EQ(result.reverted, Strings{kDamaged});
  EXPECT_LT(result.steps[0].score, 0) << "minus the error of the outputs";
}

TEST(AccuracyControl, NothingIsRevertedWithinTheLimit) {
  Case setup;
  setup.control.max_drop = 1;
  const auto result = setup.run();
  EXPECT_TRUE(result.limit_met);
  EXPECT_TRUE(result.steps.empty());
  EXPECT_EQ(result.final_metric, result.quantized_metric);
  EXPECT_EQ(result.seconds.count("rank"), 0u);
  EXPECT_EQ(weights_of(result.quantized.report).size(), 4u);
}

TEST(AccuracyControl, DropTypeDecidesWhatIsCompared) {
  Case setup;
  setup.control.max_drop = 0.3;
  setup.control.drop_type = DropType::kRelative;
  const auto relative = setup.run(scripted({10, 8}, setup));
  EXPECT_TRUE(relative.limit_met);
  EXPECT_DOUBLE_EQ(relative.drop, 0.2);
  setup.control.drop_type = DropType::kAbsolute;
  const auto absolute = setup.run(scripted({10, 8}, setup));
  EXPECT_FALSE(absolute.limit_met);
  EXPECT_DOUBLE_EQ(absolute.drop, 2);
}

TEST(AccuracyControl, OneWorseStepIsForgivenTheSecondUndoneAndTheBestReturned) {
  Case setup;
  setup.control.max_drop = 0;
  const auto result = setup.run(scripted({1.0, 0.5, 0.7, 0.6, 0.55, 0.65, 0.64, 0.63, 0.62}, setup));
  std::vector<double> metrics;
  std::vector<bool> kept;
  for (const auto& step : result.steps) {
    metrics.push_back(step.metric);
    kept.push_back(step.kept);
  }
  // 0.7 is better and uses up the forgiveness of the first step, so 0.6 is undone; after that one worse step is free
  // again: 0.55. 0.65 is better, 0.64 undone, 0.63 free, and 0.62 has the last group.
  EXPECT_EQ(metrics, (std::vector<double>{0.7, 0.6, 0.55, 0.65, 0.64, 0.63, 0.62}));
  EXPECT_EQ(kept, (std::vector<bool>{true, false, true, true, false, true, true}));
  EXPECT_FALSE(result.limit_met);
  EXPECT_EQ(result.final_metric, 0.7);
  EXPECT_DOUBLE_EQ(result.drop, 0.3);
  EXPECT_EQ(result.reverted, result.steps[0].operators);
  EXPECT_EQ(result.quantized.report.options.at("accuracy_limit_met"), "false");
  ASSERT_FALSE(result.quantized.report.warnings.empty());
  EXPECT_NE(result.quantized.report.warnings.back().find("the drop is 0.3"), std::string::npos);
}

TEST(AccuracyControl, AWorseSearchReturnsTheFullyQuantizedModel) {
  Case setup;
  setup.control.max_drop = 0;
  const auto result = setup.run(scripted({1.0, 0.5, 0.4, 0.3, 0.2, 0.1}, setup));
  EXPECT_FALSE(result.limit_met);
  EXPECT_EQ(result.final_metric, 0.5);
  EXPECT_TRUE(result.reverted.empty());
  EXPECT_EQ(weights_of(result.quantized.report).size(), 4u);
}

TEST(AccuracyControl, WithEverythingRevertedTheModelIsTheFloatModelAgain) {
  Case setup;
  setup.control.max_drop = 0;
  const auto result = setup.run(scripted({1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95}, setup));
  EXPECT_EQ(result.reverted.size(), 5u);
  EXPECT_TRUE(result.quantized.report.quantizers.empty());
  const Sample sample = setup.validation.get(0);
  // The biases too: bias correction is undone with the weights it belongs to.
  EXPECT_TRUE(result.quantized.model.run(sample).toTensor().equal(setup.model.run(sample).toTensor()));
}

TEST(AccuracyControl, RestoreModeMayKeepQuantizedWeights) {
  Case setup;
  setup.control.max_drop = 0;
  const std::vector<double> rising{1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95};
  const auto both = setup.run(scripted(rising, setup));
  setup.control.advanced_accuracy_restorer_parameters.restore_mode = RestoreMode::kOnlyActivations;
  const auto activations = setup.run(scripted(rising, setup));
  EXPECT_TRUE(weights_of(both.quantized.report).empty());
  EXPECT_EQ(weights_of(activations.quantized.report).size(), 4u);
  EXPECT_EQ(activations.quantized.report.quantizers.size(), 4u) << "no activation is quantized";
  EXPECT_LT(activations.quantized.report.quantized_bytes, both.quantized.report.quantized_bytes);
  // The ranking tries what will be done: with its weights quantized a layer scores otherwise.
  const auto score_of = [](const AccuracyControlResult& result, const std::string& name) {
    for (const auto& step : result.steps) {
      if (step.operators == Strings{name}) return step.score;
    }
    throw std::out_of_range(name);
  };
  EXPECT_LT(score_of(activations, kDamaged), score_of(both, kDamaged));
}

TEST(AccuracyControl, IterationsAreLimited) {
  Case setup;
  setup.control.max_drop = 0;
  for (int64_t limit : {0, 1, 2}) {
    setup.control.advanced_accuracy_restorer_parameters.max_num_iterations = limit;
    const auto result = setup.run(scripted({1.0, 0.5, 0.6, 0.7, 0.8, 0.9}, setup));
    EXPECT_EQ(static_cast<int64_t>(result.steps.size()), limit);
    EXPECT_DOUBLE_EQ(result.final_metric, 0.5 + 0.1 * static_cast<double>(limit));
  }
}

TEST(AccuracyControl, RankingUsesTheSamplesThatDifferMost) {
  Case setup;
  setup.control.advanced_accuracy_restorer_parameters.ranking_subset_size = 7;
  std::set<std::vector<int64_t>> subsets;
  std::vector<double> first;
  const auto full = accuracy(setup.labels);
  const auto result = setup.run([&](ValidationModel& model, const Dataset& data, const std::vector<int64_t>& indices) {
    auto measured = full(model, data, indices);
    if (static_cast<int64_t>(indices.size()) == data.length()) {
      if (subsets.empty()) first = measured.values;
    } else {
      subsets.insert(indices);
    }
    return measured;
  });
  ASSERT_EQ(subsets.size(), 1u);
  ASSERT_EQ(subsets.begin()->size(), 7u);
  for (int64_t i : *subsets.begin()) EXPECT_EQ(first[i], 0) << "the quantized model was right about sample " << i;
  // None: as many as calibration uses.
  setup.control.advanced_accuracy_restorer_parameters.ranking_subset_size = c10::nullopt;
  setup.options.subset_size = 11;
  size_t seen = 0;
  setup.run([&](ValidationModel& model, const Dataset& data, const std::vector<int64_t>& indices) {
    if (static_cast<int64_t>(indices.size()) != data.length()) seen = indices.size();
    return full(model, data, indices);
  });
  EXPECT_EQ(seen, 11u);
}

TEST(AccuracyControl, WorkersRunAtTheSameTimeAndChangeNothing) {
  const auto folder = temp_dir();
  damaged_net(kOutlier).save(folder + "/model.pt");
  std::vector<AccuracyControlResult> results;
  for (int64_t workers : {1, 2}) {
    Case setup;
    // Loaded anew: LibTorch numbers the types of all copies of a module, and files show the numbers.
    setup.model = Model::load(folder + "/model.pt");
    setup.control.max_drop = 0;
    setup.control.advanced_accuracy_restorer_parameters.max_num_iterations = 2;
    setup.control.advanced_accuracy_restorer_parameters.num_ranking_workers = workers;
    std::mutex mutex;
    std::condition_variable changed;
    int64_t inside = 0, most = 0;
    const auto inner = accuracy_and_outputs(setup.labels);
    results.push_back(setup.run([&](ValidationModel& model, const Dataset& data, const std::vector<int64_t>& indices) {
      const bool ranking = static_cast<int64_t>(indices.size()) != data.length();
      if (ranking) {
        std::unique_lock<std::mutex> lock(mutex);
        most = std::max(most, ++inside);
        changed.notify_all();
        // The first one waits for company: it comes only when two threads are really at work.
        if (workers == 2) changed.wait_for(lock, std::chrono::seconds(10), [&] { return most == 2; });
      }
      auto result = inner(model, data, indices);
      if (ranking) {
        const std::lock_guard<std::mutex> lock(mutex);
        --inside;
      }
      return result;
    }));
    EXPECT_EQ(most, workers);
    EXPECT_EQ(results.back().ranking_workers, workers);
    results.back().quantized.save(folder + "/" + std::to_string(workers) + ".pt");
  }
  ASSERT_EQ(results[0].steps.size(), results[1].steps.size());
  for (size_t i = 0; i < results[0].steps.size(); ++i) {
    EXPECT_EQ(results[0].steps[i].operators, results[1].steps[i].operators);
    EXPECT_EQ(results[0].steps[i].score, results[1].steps[i].score);
    EXPECT_EQ(results[0].steps[i].metric, results[1].steps[i].metric);
  }
  EXPECT_TRUE(bytes_of(folder + "/1.pt") == bytes_of(folder + "/2.pt"));
}

TEST(AccuracyControl, AnErrorInAWorkerIsPassedOn) {
  Case setup;
  setup.control.advanced_accuracy_restorer_parameters.num_ranking_workers = 2;
  setup.control.advanced_accuracy_restorer_parameters.ranking_subset_size = 5;
  const auto inner = accuracy_and_outputs(setup.labels);
  EXPECT_THROW(setup.run([&](ValidationModel& model, const Dataset& data, const std::vector<int64_t>& indices) {
    if (indices.size() == 5) throw std::domain_error("no metric today");
    return inner(model, data, indices);
  }),
               std::domain_error);
}

TEST(AccuracyControl, IntermediateModelsAreWritten) {
  Case setup;
  const auto folder = temp_dir() + "/deep/er";
  setup.control.advanced_accuracy_restorer_parameters.intermediate_model_dir = folder;
  const auto result = setup.run();
  result.quantized.save(folder + "/final.pt");
  const auto initial = Model::load(folder + "/intermediate_model.pt");
  const auto best = Model::load(folder + "/best_model.pt");
  const Sample sample = setup.validation.get(1);
  const auto expected = result.quantized.model.run(sample).toTensor();
  EXPECT_TRUE(best.run(sample).toTensor().equal(expected));
  EXPECT_FALSE(initial.run(sample).toTensor().equal(expected));
  setup.control.advanced_accuracy_restorer_parameters.intermediate_model_dir = folder + "/final.pt/below";
  EXPECT_EQ(thrown_error([&] { setup.run(); }).code(), ErrorCode::kIo);
}

TEST(AccuracyControl, TheGivenModelIsReplacedWithoutACopy) {
  Case setup;
  const Sample sample = setup.validation.get(0);
  const auto before = setup.model.run(sample).toTensor();
  setup.run();
  EXPECT_TRUE(setup.model.run(sample).toTensor().equal(before));
  setup.options.do_copy = false;
  const auto result = setup.run();
  EXPECT_FALSE(setup.model.run(sample).toTensor().equal(before));
  EXPECT_TRUE(setup.model.run(sample).toTensor().equal(result.quantized.model.run(sample).toTensor()));
}

TEST(AccuracyControl, EveryFormIsValidatedAsItIsReturned) {
  for (const auto form : {OutputForm::kDecomposed, OutputForm::kFakeQuantize, OutputForm::kLowered}) {
    Case setup;
    setup.options.form = form;
    const auto result = setup.run();
    EXPECT_TRUE(result.limit_met) << result.summary();
    EXPECT_EQ(result.reverted, Strings{kDamaged});
    int64_t right = 0;
    for (int64_t i = 0; i < setup.validation.length(); ++i) {
      right +=
          result.quantized.model.run(setup.validation.get(i)).toTensor().argmax().item<int64_t>() == setup.labels[i];
    }
    EXPECT_DOUBLE_EQ(static_cast<double>(right) / static_cast<double>(setup.validation.length()), result.final_metric);
  }
}

TEST(AccuracyControl, ProgressCountsAndCancels) {
  Case setup;
  std::set<std::string> phases;
  setup.options.progress = [&](const std::string& phase, int64_t done, int64_t total) {
    phases.insert(phase);
    EXPECT_LE(done, total);
    return true;
  };
  setup.control.max_drop = 0;
  setup.run(scripted({1.0, 0.5, 0.6, 0.7}, setup));
  EXPECT_EQ(phases, (std::set<std::string>{"calibrate", "rank", "restore"}));
  for (const std::string stop : {"rank", "restore"}) {
    setup.options.progress = [&](const std::string& phase, int64_t, int64_t) { return phase != stop; };
    EXPECT_EQ(thrown_error([&] { setup.run(scripted({1.0, 0.5, 0.6, 0.7}, setup)); }).code(), ErrorCode::kCancelled);
  }
}

TEST(ValidationModel, KeepsItsStateUntilItIsReset) {
  auto module = define(R"(
def forward(self, x):
    self.total = self.total + x
    return self.total
)",
                       {{"total", at::zeros({1})}});
  const auto model = Model::from(module);
  ValidationModel runner(model);
  const Sample one{{at::ones({1})}, {}};
  EXPECT_EQ(runner(one).toTensor().item<float>(), 1);
  EXPECT_EQ(runner(one).toTensor().item<float>(), 2);
  runner.reset();
  EXPECT_EQ(runner(one).toTensor().item<float>(), 1);
}

}  // namespace
}  // namespace tsquant::testing::accuracy_control_test
