#include "calibration/calibrator.h"

#include <gtest/gtest.h>

#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

/// relu(linear(x) + x)
Model small_model(const at::Tensor& weight = torch::tensor({{1.0f, -2.0f}, {0.5f, 0.25f}})) {
  return Model::from(testing::define(R"(
def forward(self, x):
    y = torch.linear(x, self.weight)
    z = y + x
    return torch.relu(z)
)",
                                     {{"weight", weight}}));
}

const ViewNode& node_of_type(const GraphView& view, const std::string& type) {
  for (const auto& node : view.nodes()) {
    if (node.kind == NodeKind::kOperator && node.type == type) return node;
  }
  throw std::runtime_error("no node of type " + type);
}

QuantizationPoint point(int64_t id, PointKind kind, const std::string& node, c10::optional<int64_t> port) {
  QuantizationPoint result;
  result.id = id;
  result.kind = kind;
  result.node = node;
  result.input_port = port;
  result.spec.mode = QuantizationScheme::kAsymmetric;
  result.spec.observer = ObserverKind::kMinMax;
  return result;
}

Annotations annotations_of(const GraphView& view) {
  Annotations result;
  result.points.push_back(point(1, PointKind::kActivation, "x", c10::nullopt));
  auto weight = point(2, PointKind::kWeight, node_of_type(view, "linear").name, 1);
  weight.spec = {};
  weight.spec.per_channel = true;
  result.points.push_back(weight);
  result.points.push_back(point(3, PointKind::kActivation, node_of_type(view, "relu").name, 0));
  result.points.push_back(point(4, PointKind::kActivation, node_of_type(view, "relu").name, c10::nullopt));
  return result;
}

Dataset data_of(int count) {
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < count; ++i) tensors.push_back(torch::tensor({{1.0f + i, -1.0f}}));
  return Dataset::from_tensors(tensors);
}

struct Fixture {
  explicit Fixture(Model m = small_model()) : model(std::move(m)), view(model), annotations(annotations_of(view)) {}
  StatTable run(const Dataset& data, CalibrationOptions options = {}) {
    return calibrate(model, view, annotations, data, options);
  }
  Error failure(const Dataset& data, const CalibrationOptions& options = {}) {
    try {
      run(data, options);
    } catch (const Error& error) {
      return error;
    }
    return Error(ErrorCode::kInternal, "no error");
  }
  Model model;
  GraphView view;
  Annotations annotations;
};

std::pair<float, float> range_of(const StatTable& table, int64_t id) {
  const auto range = table.observers.at(id)->range();
  return {range.min.min().item<float>(), range.max.max().item<float>()};
}

TEST(Calibrator, ObservesTheTensorsOfThePoints) {
  Fixture f;
  CalibrationOptions options;
  options.subset_size = 2;
  const auto table = f.run(data_of(5), options);
  EXPECT_EQ(table.samples, 2);
  EXPECT_TRUE(table.warnings.empty());
  // x = (1, -1): linear (3, 0.25), sum (4, -0.75); x = (2, -1): linear (4, 0.75), sum (6, -0.25)
  EXPECT_EQ(range_of(table, 1), std::make_pair(-1.0f, 2.0f));
  EXPECT_EQ(range_of(table, 3), std::make_pair(-0.75f, 6.0f));
  EXPECT_EQ(range_of(table, 4), std::make_pair(0.0f, 6.0f));
  EXPECT_TRUE(at::equal(table.observers.at(2)->range().max, torch::tensor({2.0f, 0.5f})));
}

TEST(Calibrator, FewerSamplesThanAskedIsAWarning) {
  const auto table = Fixture().run(data_of(3));
  EXPECT_EQ(table.samples, 3);
  ASSERT_EQ(table.warnings.size(), 1u);
  EXPECT_NE(table.warnings[0].find("300"), std::string::npos);
  EXPECT_NE(table.warnings[0].find("3;"), std::string::npos);
}

TEST(Calibrator, RefusesEmptyDataAndBadSubsets) {
  Fixture f;
  EXPECT_EQ(f.failure(Dataset::from_tensors({})).code(), ErrorCode::kDataset);
  CalibrationOptions options;
  options.subset_size = 0;
  EXPECT_EQ(f.failure(data_of(1), options).code(), ErrorCode::kInvalidArgument);
}

TEST(Calibrator, WrongInputIsADatasetError) {
  Fixture f;
  const auto wrong_shape = f.failure(Dataset::from_tensors({torch::ones({1, 7})}));
  EXPECT_EQ(wrong_shape.code(), ErrorCode::kDataset) << wrong_shape.what();
  const auto wrong_type = f.failure(Dataset(1, [](int64_t) { return Sample{{std::string("text")}, {}}; }));
  EXPECT_EQ(wrong_type.code(), ErrorCode::kDataset) << wrong_type.what();
}

TEST(Calibrator, NanInTheDataNamesInputAndSample) {
  Fixture f;
  const auto error = f.failure(Dataset::from_tensors({torch::ones({1, 2}), torch::tensor({{NAN, INFINITY}})}));
  EXPECT_EQ(error.code(), ErrorCode::kCalibration);
  EXPECT_EQ(error.place(), "x");
  EXPECT_NE(error.message().find("sample 1 holds 1 NaN and 1 infinite"), std::string::npos) << error.message();
}

TEST(Calibrator, NanMadeByTheModelNamesTheNode) {
  const auto model = Model::from(testing::define("def forward(self, x):\n    return torch.relu(torch.log(x))\n"));
  const GraphView view(model);
  Annotations annotations;
  annotations.points = {point(1, PointKind::kActivation, node_of_type(view, "log").name, c10::nullopt)};
  try {
    calibrate(model, view, annotations, Dataset::from_tensors({torch::tensor({1.0f, -1.0f, -2.0f})}), {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCalibration);
    EXPECT_EQ(error.place(), annotations.points[0].node);
    EXPECT_NE(error.message().find("2 NaN values of 3"), std::string::npos) << error.message();
  }
  // log(0) is -inf: left out of the range and reported.
  const auto table =
      calibrate(model, view, annotations, Dataset::from_tensors({torch::tensor({0.0f, 1.0f, 2.0f})}), {});
  EXPECT_EQ(range_of(table, 1).first, 0.0f);
  ASSERT_FALSE(table.warnings.empty());
  EXPECT_NE(table.warnings.back().find("1 infinite values at " + annotations.points[0].node), std::string::npos);
}

TEST(Calibrator, NanInAWeightNamesIt) {
  Fixture f(small_model(torch::tensor({{1.0f, NAN}, {0.5f, 0.25f}})));
  f.annotations.points = {f.annotations.points[1]};
  const auto error = f.failure(data_of(1));
  EXPECT_EQ(error.code(), ErrorCode::kCalibration);
  EXPECT_EQ(error.place(), "weight");
}

TEST(Calibrator, ProgressAndCancellation) {
  Fixture f;
  std::vector<int64_t> seen;
  CalibrationOptions options;
  options.progress = [&](const std::string& phase, int64_t done, int64_t total) {
    EXPECT_EQ(phase, "calibrate");
    EXPECT_EQ(total, 5);
    seen.push_back(done);
    return done < 3;
  };
  const auto error = f.failure(data_of(5), options);
  EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 1, 2, 3}));
}

TEST(Calibrator, BatchwiseAndEstimatorsReachTheObservers) {
  Fixture f;
  for (auto& p : f.annotations.points) p.spec.observer = ObserverKind::kDefault;
  const auto data = Dataset::from_tensors({torch::tensor({{1.0f, -1.0f}, {5.0f, -1.0f}})});
  CalibrationOptions options;
  EXPECT_EQ(range_of(f.run(data, options), 1).second, 5.0f);
  options.batchwise = true;
  EXPECT_EQ(range_of(f.run(data, options), 1).second, 3.0f);
  options.activations_range_estimator = RangeEstimatorParameters::minmax();
  EXPECT_EQ(range_of(f.run(data, options), 1).second, 5.0f);
  options.weights_range_estimator.max.clipping_value = 0.125;
  EXPECT_EQ(range_of(f.run(data, options), 2).second, 0.125f);
}

TEST(Calibrator, ExtraTapsSeeTheSameRun) {
  Fixture f;
  f.annotations.points.clear();
  QuantizationSpec spec;
  spec.observer = ObserverKind::kMinMax;
  const auto observer = make_observer(spec, PointKind::kActivation);
  CalibrationOptions options;
  options.subset_size = 2;
  options.extra_taps = {{TapPoint{node_of_type(f.view, "relu").value, {nullptr, 0}}, observer.get(), "relu"}};
  const auto table = f.run(data_of(2), options);
  EXPECT_EQ(table.samples, 2);
  EXPECT_TRUE(table.observers.empty());
  EXPECT_EQ(observer->batches(), 2);
  EXPECT_EQ(observer->range().max.item<float>(), 6.0f);
}

TEST(Calibrator, ComputedWeightsAreReportedAndUntakenBranchesHaveNoEntry) {
  const auto model = Model::from(testing::define(R"(
def forward(self, x):
    y = torch.linear(x, torch.relu(self.weight))
    if bool(x.sum() > 1000):
        y = torch.sigmoid(y)
    return y
)",
                                                 {{"weight", torch::ones({2, 2})}}));
  const GraphView view(model);
  Annotations annotations;
  annotations.points = {point(1, PointKind::kWeight, node_of_type(view, "linear").name, 1),
                        point(2, PointKind::kActivation, node_of_type(view, "sigmoid").name, c10::nullopt)};
  const auto table = calibrate(model, view, annotations, data_of(1), {});
  EXPECT_TRUE(table.observers.empty());
  EXPECT_NE(table.warnings.back().find("stays in float"), std::string::npos);
  EXPECT_TRUE(compute_qparams(annotations, table).empty());
}

TEST(Calibrator, InPlaceWritesAreSeenAtTheRightTime) {
  const auto model = Model::from(testing::define(R"(
def forward(self, x):
    y = x + 1
    z = torch.sigmoid(y)
    y.mul_(10)
    return z + y
)"));
  const GraphView view(model);
  Annotations annotations;
  annotations.points = {point(1, PointKind::kActivation, node_of_type(view, "sigmoid").name, 0)};
  const auto table = calibrate(model, view, annotations, Dataset::from_tensors({torch::tensor({1.0f})}), {});
  EXPECT_EQ(range_of(table, 1).second, 2.0f);
}

TEST(ComputeQParams, UnifiedGroupsShareMinOfMinsAndMaxOfMaxes) {
  Fixture f;
  f.annotations.unified_scale_groups = {{1, 4}};
  CalibrationOptions options;
  options.subset_size = 2;
  const auto table = f.run(data_of(2), options);
  const auto params = compute_qparams(f.annotations, table);
  EXPECT_TRUE(at::equal(params.at(1).scale, params.at(4).scale));
  EXPECT_TRUE(at::equal(params.at(1).zero_point, params.at(4).zero_point));
  EXPECT_EQ(params.at(1).range.min.item<float>(), -1.0f);
  EXPECT_EQ(params.at(4).range.max.item<float>(), 6.0f);
  EXPECT_NE(params.at(3).range.min.item<float>(), -1.0f);
  EXPECT_EQ(params.at(2).scale.numel(), 2);
}

TEST(ComputeQParams, FixedPointsNeedNoStatistics) {
  Fixture f;
  f.annotations.points = {f.annotations.points[3]};
  f.annotations.points[0].spec.fixed_scale = 0.25;
  f.annotations.points[0].spec.fixed_zero_point = 3;
  const auto table = f.run(data_of(1));
  EXPECT_TRUE(table.observers.empty());
  const auto params = compute_qparams(f.annotations, table);
  EXPECT_EQ(params.at(4).scale.item<float>(), 0.25f);
  EXPECT_EQ(params.at(4).zero_point.item<int64_t>(), 3);
}

}  // namespace
}  // namespace tsquant
