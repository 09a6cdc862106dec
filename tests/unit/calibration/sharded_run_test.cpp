#include "calibration/sharded_run.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstring>
#include <set>

#include "algorithms/channel_mean.h"
#include "calibration/calibrator.h"
#include "support/support.h"
#include "tsquant/error.h"
#include "unit/calibration/shared_ranks.h"

namespace tsquant {
namespace {

constexpr int64_t kSamples = 21;

/// Modules of one compilation unit may not be copied at the same time.
std::mutex copying;

/// relu(linear(x)), with a branch that only some samples take and a loop.
Model branching_model() {
  static const auto module = testing::define(R"(
def forward(self, x):
    y = torch.relu(torch.linear(x, self.weight))
    if bool(x.sum() > 0):
        y = torch.sigmoid(y)
    for i in range(2):
        y = torch.tanh(y * 3)
    return y
)",
                                             {{"weight", torch::linspace(-1, 2, 12).reshape({3, 4})}});
  const std::lock_guard<std::mutex> lock(copying);
  return Model::from(module);
}

std::vector<at::Tensor> samples(int64_t count = kSamples) {
  torch::manual_seed(5);
  std::vector<at::Tensor> result;
  for (int64_t i = 0; i < count; ++i) result.push_back(torch::randn({2, 4}) * (0.1 + (i % 7)) + 0.01 * i);
  return result;
}

std::string name_of(const GraphView& view, const std::string& type) {
  for (const auto& node : view.nodes()) {
    if (node.kind == NodeKind::kOperator && node.type == type) return node.name;
  }
  throw std::runtime_error("no node of type " + type);
}

struct Variation {
  QuantizationSpec spec;
  RangeEstimatorParameters estimator;
  bool batchwise = false;
};

Annotations annotations_of(const GraphView& view, const QuantizationSpec& spec) {
  Annotations result;
  int64_t id = 1;
  for (const char* type : {"relu", "sigmoid", "tanh"}) {
    QuantizationPoint point;
    point.id = id++;
    point.node = name_of(view, type);
    point.spec = spec;
    result.points.push_back(point);
  }
  return result;
}

/// The states of all observers after a run, and what an extra tap saw.
std::vector<at::Tensor> run(const Variation& variation, const Dataset& data,
                            std::shared_ptr<StatisticsExchange> exchange) {
  const auto model = branching_model();
  const GraphView view(model);
  ChannelMean mean(1);
  CalibrationOptions options;
  options.activations_range_estimator = variation.estimator;
  options.batchwise = variation.batchwise;
  options.exchange = std::move(exchange);
  options.extra_taps = {{{view.find(name_of(view, "relu"))->value, {nullptr, 0}}, &mean, "relu"}};
  auto annotations = annotations_of(view, variation.spec);
  const auto table = calibrate(model, view, annotations, data, options);
  std::vector<at::Tensor> states = mean.state();
  for (const auto& [id, observer] : table.observers) {
    for (const auto& tensor : observer->state()) states.push_back(tensor);
    states.push_back(observer->range().min);
  }
  return states;
}

void expect_same(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].sizes(), b[i].sizes()) << what;
    const auto left = a[i].contiguous(), right = b[i].contiguous();
    if (left.numel() == 0) continue;
    EXPECT_EQ(std::memcmp(left.data_ptr(), right.data_ptr(), left.nbytes()), 0) << what << " tensor " << i;
  }
}

std::vector<std::pair<std::string, Variation>> variations() {
  std::vector<std::pair<std::string, Variation>> result;
  QuantizationSpec per_tensor, per_channel;
  per_channel.per_channel = true;
  per_channel.ch_axis = 1;
  result.push_back({"default", {per_tensor, {}, false}});
  result.push_back({"items", {per_tensor, {}, true}});
  result.push_back({"per channel", {per_channel, {}, false}});
  result.push_back({"median", {per_tensor, RangeEstimatorParameters::median_minmax(), true}});
  result.push_back({"no outliers", {per_tensor, RangeEstimatorParameters::mean_no_outliers_minmax(), false}});
  result.push_back({"quantile", {per_tensor, RangeEstimatorParameters::mean_quantile(), false}});
  result.push_back({"histogram", {per_tensor, RangeEstimatorParameters::histogram(), false}});
  auto moving = per_tensor;
  moving.observer = ObserverKind::kMovingAverageMinMax;
  result.push_back({"moving average", {moving, {}, false}});
  return result;
}

TEST(ShardedRun, EveryRankGetsTheBitsOfOneProcess) {
  const auto data = Dataset::from_tensors(samples());
  for (const auto& [name, variation] : variations()) {
    const auto& options = variation;
    const auto alone = run(options, data, nullptr);
    for (int64_t size : {1, 2, 3, 21}) {
      std::vector<std::vector<at::Tensor>> results(static_cast<size_t>(size));
      testing::for_each_rank(size, [&](std::shared_ptr<StatisticsExchange> exchange) {
        const auto rank = static_cast<size_t>(exchange->rank());
        results[rank] = run(options, data, std::move(exchange));
      });
      for (const auto& result : results) expect_same(result, alone, name + ", ranks: " + std::to_string(size));
    }
  }
}

TEST(ShardedRun, EachRankReadsItsShardOnly) {
  const auto tensors = samples();
  std::vector<std::set<int64_t>> read(3);
  testing::for_each_rank(3, [&](std::shared_ptr<StatisticsExchange> exchange) {
    auto& mine = read[static_cast<size_t>(exchange->rank())];
    const Dataset data(kSamples, [&](int64_t i) {
      mine.insert(i);
      return Sample{{tensors[static_cast<size_t>(i)]}, {}};
    });
    run({}, data, exchange);
  });
  for (int64_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(read[static_cast<size_t>(rank)].size(), 7u);
    for (int64_t index : read[static_cast<size_t>(rank)]) EXPECT_EQ(index % 3, rank);
  }
}

/// The errors that the ranks throw.
std::vector<Error> failures(int64_t size, const std::function<void(std::shared_ptr<StatisticsExchange>)>& work) {
  std::mutex mutex;
  std::vector<Error> errors;
  testing::for_each_rank(size, [&](std::shared_ptr<StatisticsExchange> exchange) {
    try {
      work(exchange);
    } catch (const Error& error) {
      const std::lock_guard<std::mutex> lock(mutex);
      errors.push_back(error);
    }
  });
  return errors;
}

TEST(ShardedRun, AnErrorOnOneRankIsThrownOnAll) {
  auto tensors = samples();
  tensors[4][0][0] = NAN;
  const auto data = Dataset::from_tensors(tensors);
  for (const auto& variation : {Variation{}, Variation{{}, RangeEstimatorParameters::histogram(), false}}) {
    const auto errors = failures(3, [&](auto exchange) { run(variation, data, exchange); });
    ASSERT_EQ(errors.size(), 3u);
    for (const auto& error : errors) {
      EXPECT_EQ(error.code(), ErrorCode::kCalibration);
      EXPECT_EQ(error.place(), "x");
      EXPECT_NE(error.message().find("sample 4 holds 1 NaN"), std::string::npos) << error.what();
    }
  }
}

TEST(ShardedRun, RanksWithOtherSettingsAreNamed) {
  const auto data = Dataset::from_tensors(samples());
  const auto errors = failures(2, [&](auto exchange) {
    Variation variation;
    variation.batchwise = exchange->rank() == 1;
    run(variation, data, exchange);
  });
  ASSERT_EQ(errors.size(), 2u);
  for (const auto& error : errors) {
    EXPECT_EQ(error.message(), "rank 1 and rank 0 differ: batchwise_statistics is \"true\" instead of \"false\"");
  }
}

TEST(ShardedRun, MoreRanksThanSamplesIsAnError) {
  const auto data = Dataset::from_tensors(samples(2));
  const auto errors = failures(3, [&](auto exchange) { run({}, data, exchange); });
  ASSERT_EQ(errors.size(), 3u);
  EXPECT_EQ(errors[0].message(), "3 processes share 2 samples");
}

TEST(ShardedRun, RefusesModelsWithState) {
  const auto module = testing::define(R"(
def forward(self, x):
    self.state.add_(x.sum())
    return torch.relu(x + self.state)
)",
                                      {{"state", torch::zeros({1})}});
  const auto errors = failures(2, [&](auto exchange) {
    std::unique_lock<std::mutex> lock(copying);
    const auto model = Model::from(module);
    lock.unlock();
    const GraphView view(model);
    Annotations annotations;
    QuantizationPoint point;
    point.node = name_of(view, "relu");
    annotations.points = {point};
    CalibrationOptions options;
    options.exchange = exchange;
    calibrate(model, view, annotations, Dataset::from_tensors(samples()), options);
  });
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_NE(errors[0].message().find("keeps state"), std::string::npos) << errors[0].what();
}

/// An observer that can be merged, but not replayed.
class Plain : public Observer {
 public:
  void observe(const at::Tensor&) override { ++batches_; }
  void merge(const Observer&) override {}
  Range range() const override { return {}; }
  std::vector<at::Tensor> state() const override { return {}; }
  void set_state(const std::vector<at::Tensor>&) override {}
};

TEST(ShardedRun, RefusesObserversThatCannotBeReplayed) {
  const auto errors = failures(2, [](auto exchange) {
    const auto model = branching_model();
    const GraphView view(model);
    Plain plain;
    CalibrationOptions options;
    options.exchange = exchange;
    options.extra_taps = {{{view.find(name_of(view, "relu"))->value, {nullptr, 0}}, &plain, "the relu"}};
    calibrate(model, view, {}, Dataset::from_tensors(samples()), options);
  });
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_EQ(errors[0].place(), "the relu");
  EXPECT_NE(errors[0].message().find("cannot be collected across processes"), std::string::npos);
}

}  // namespace
}  // namespace tsquant
