#include "observers/saved_state.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "algorithms/channel_mean.h"
#include "calibration/statistics_file.h"
#include "observers/histogram_observer.h"
#include "observers/moving_average_observer.h"
#include "observers/quantile_range_observer.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

std::vector<std::unique_ptr<Observer>> observers_of_each_kind() {
  std::vector<std::unique_ptr<Observer>> result;
  auto params = RangeEstimatorParameters::mean_minmax();
  params.max.statistics_type = StatisticsType::kAbsMax;
  result.push_back(std::make_unique<QuantileRangeObserver>(params, false, true));
  result.push_back(std::make_unique<RangeEstimatorObserver>(RangeEstimatorParameters::minmax(), c10::nullopt, false));
  result.push_back(std::make_unique<MovingAverageObserver>(c10::nullopt));
  result.push_back(std::make_unique<HistogramObserver>());
  result.push_back(std::make_unique<ChannelMean>(1));
  return result;
}

/// Whether an observer refuses a state, as damage of the file.
bool refused(size_t kind, const std::vector<at::Tensor>& state) {
  try {
    observers_of_each_kind()[kind]->set_state(state);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCalibration);
    EXPECT_EQ(error.message().find("the statistics file is damaged: "), 0u) << error.message();
    return true;
  }
  return false;
}

/// Every observer's own state is taken; each tensor in another type, layout or shape is refused.
TEST(SavedState, OnlyWhatAnObserverReturnedIsTaken) {
  const auto kinds = observers_of_each_kind();
  for (size_t kind = 0; kind < kinds.size(); ++kind) {
    kinds[kind]->observe(at::arange(12, at::kFloat).view({2, 6}) - 3);
    const auto state = kinds[kind]->state();
    EXPECT_FALSE(refused(kind, state)) << kind;
    EXPECT_TRUE(refused(kind, {})) << kind;
    for (size_t i = 0; i < state.size(); ++i) {
      const auto with = [&](const at::Tensor& tensor) {
        auto changed = state;
        changed[i] = tensor;
        return refused(kind, changed);
      };
      EXPECT_TRUE(with(state[i].to(at::kInt))) << kind << " " << i;
      EXPECT_TRUE(with(state[i].unsqueeze(0))) << kind << " " << i;
      if (state[i].numel() == 0) continue;
      EXPECT_TRUE(with(state[i].to_sparse())) << kind << " " << i;
    }
  }
}

TEST(SavedState, CountsAndValuesMustMakeSense) {
  const auto kinds = observers_of_each_kind();
  for (const auto& observer : kinds) observer->observe(at::arange(12, at::kFloat).view({2, 6}) - 3);
  const auto with = [&](size_t kind, size_t index, const at::Tensor& tensor) {
    auto state = kinds[kind]->state();
    state[index] = tensor;
    return refused(kind, state);
  };
  EXPECT_TRUE(with(1, 0, at::tensor({-1, 0, 0}, at::kLong)));
  EXPECT_TRUE(with(1, 0, at::tensor({1, 0}, at::kLong)));
  EXPECT_TRUE(with(1, 1, at::full({1}, NAN)));
  EXPECT_TRUE(with(1, 1, at::zeros({3}))) << "channels of a tensor without an axis";
  EXPECT_TRUE(with(1, 1, at::zeros({0}))) << "batches without values";
  EXPECT_TRUE(with(0, 2, at::full({1, 3}, NAN, at::kDouble)));
  EXPECT_TRUE(with(0, 2, at::zeros({1, 4}, at::kDouble)));
  EXPECT_TRUE(with(2, 1, at::zeros({2})));
  EXPECT_TRUE(with(2, 2, at::full({1}, INFINITY)));
  EXPECT_TRUE(with(3, 1, at::zeros({7}, at::kDouble)));
  EXPECT_TRUE(with(3, 3, at::tensor({1.f, 0.f}))) << "values without a range";
  EXPECT_TRUE(with(3, 3, at::tensor({0.f, NAN})));
  EXPECT_TRUE(with(4, 1, at::tensor({2, 5}, at::kLong))) << "six channels";
  EXPECT_TRUE(with(4, 2, at::tensor({-1}, at::kLong)));
}

std::string table_fault(const std::string& table) {
  const auto path = testing::temp_dir() + "/s.pt";
  torch::jit::Module module("M");
  module.register_buffer("t0", at::zeros({2}, at::kInt));
  module.save(path, {{"statistics.json", table}});
  try {
    read_statistics(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCalibration) << error.what();
    return error.message();
  }
  return "";
}

TEST(SavedState, FieldsOfTheTableAreChecked) {
  const std::string begin = R"({"format": "tsquant statistics", "version": )";
  for (const std::string version : {"\"1\"", "null", "[1]", "1.0"}) {
    EXPECT_NE(table_fault(begin + version + "}").find("is damaged"), std::string::npos) << version;
  }
  for (const std::string collections : {"1", "[1]", R"([{"keys": {"a": 1}, "observers": []}])",
                                        R"([{"keys": {}, "observers": [{"name": 1, "tensors": []}]}])",
                                        R"([{"keys": {}, "observers": [{"name": "a", "tensors": ["t0"]}]}])"}) {
    EXPECT_NE(table_fault(begin + "1, \"collections\": " + collections + "}").find("do not fit its table"),
              std::string::npos)
        << collections;
  }
  EXPECT_NE(table_fault("{").find("is damaged"), std::string::npos);
  EXPECT_NE(table_fault(begin + std::string(100000, '[')).find("is damaged"), std::string::npos);
  EXPECT_EQ(table_fault(R"({"format": 3})"), "this archive holds no statistics");
}

}  // namespace
}  // namespace tsquant
