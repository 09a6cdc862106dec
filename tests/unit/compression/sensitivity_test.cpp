#include "compression/sensitivity.h"

#include <cmath>

#include "algorithms_golden.h"
#include "compression/round_to_nearest.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

using Metric = SensitivityMetric;

TEST(Sensitivity, GivesNncfsNumbers) {
  for (const auto& golden : algorithms_goldens()) {
    const auto cases = golden.cases("sensitivity");
    EXPECT_GE(cases.size(), 1u);
    for (const auto& c : cases) {
      SCOPED_TRACE(c["key"].get<std::string>());
      const auto& layer = golden.layer(c);
      InputStatistics statistics;
      for (const auto& x : layer.inputs) statistics.add(x);
      const double inverse_error = 1 / (c["int8_asym_max_mean"].get<double>() + 1.1920928955078125e-07);
      const auto expect = [&](Metric metric, double wanted) {
        EXPECT_NEAR(sensitivity(layer.weight, 0, metric, &statistics), wanted, 1e-5 * wanted);
      };
      expect(Metric::kWeightQuantizationError, inverse_error);
      expect(Metric::kHessianInputActivation,
             c["int8_asym_frobenius"].get<double>() * c["hessian_input_activation"].get<double>());
      expect(Metric::kMeanActivationVariance, inverse_error * c["mean_activation_variance"].get<double>());
      expect(Metric::kMaxActivationVariance, inverse_error * c["max_activation_variance"].get<double>());
      expect(Metric::kMeanActivationMagnitude, inverse_error * c["mean_activation_magnitude"].get<double>());
      EXPECT_EQ(sensitivity(layer.weight.t(), 1, Metric::kWeightQuantizationError),
                sensitivity(layer.weight, 0, Metric::kWeightQuantizationError));
    }
  }
}

/// More values than are looked at in one piece.
TEST(Sensitivity, OfALargeWeightIsThatOfItsWorstChannel) {
  at::manual_seed(1);
  auto weight = at::randn({3000, 1024});
  weight[2900].mul_(50);
  QuantizationSpec spec;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.per_channel = true;
  const auto squares = (decompress(round_to_nearest(weight, spec)).to(at::kDouble) - weight).square();
  const double worst = squares.mean(1)[2900].item<double>(), all = squares.sum().item<double>();
  InputStatistics statistics;
  statistics.add(at::ones({2, 1024}));
  for (const int64_t axis : {0, 1}) {
    const auto w = axis == 0 ? weight : weight.t().contiguous();
    EXPECT_NEAR(sensitivity(w, axis, Metric::kWeightQuantizationError) * (worst + 1.1920928955078125e-07), 1, 1e-9);
    const double frobenius = std::sqrt(all) * statistics.factor(Metric::kHessianInputActivation);
    EXPECT_NEAR(sensitivity(w, axis, Metric::kHessianInputActivation, &statistics) / frobenius, 1, 1e-9);
  }
}

TEST(Sensitivity, StatisticsAreMeansOverSamples) {
  InputStatistics statistics;
  statistics.add(at::tensor({1.0F, 2.0F, 3.0F, 6.0F}).reshape({2, 2}));  // variances 1 and 4, magnitudes 3 and 6
  statistics.add(at::zeros({0, 2}));
  statistics.add(at::tensor({-5.0F, 0.0F}).reshape({1, 1, 2}));
  EXPECT_EQ(statistics.samples, 2);
  EXPECT_DOUBLE_EQ(statistics.factor(Metric::kMeanActivationVariance), 2.5 / 2);
  EXPECT_DOUBLE_EQ(statistics.factor(Metric::kMaxActivationVariance), 4.0 / 2);
  EXPECT_DOUBLE_EQ(statistics.factor(Metric::kMeanActivationMagnitude), (4.5 + 2.5) / 2);
  EXPECT_DOUBLE_EQ(statistics.factor(Metric::kHessianInputActivation), (50.0 / 4 + 25) / 2);
  EXPECT_EQ(statistics.factor(Metric::kWeightQuantizationError), 1);
}

TEST(Sensitivity, RefusesWhatItCannotMeasure) {
  InputStatistics statistics;
  const auto weight = at::ones({2, 2});
  EXPECT_EQ(thrown_error([&] { statistics.add(at::ones({4})); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([&] { statistics.add(at::ones({4, 4}, at::kLong)); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([&] { statistics.add(at::full({1, 4}, NAN)); }).code(), ErrorCode::kCalibration);
  EXPECT_EQ(statistics.samples, 0);
  for (const auto metric : {Metric::kHessianInputActivation, Metric::kMeanActivationVariance,
                            Metric::kMaxActivationVariance, Metric::kMeanActivationMagnitude}) {
    EXPECT_EQ(thrown_error([&] { sensitivity(weight, 0, metric); }).code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(thrown_error([&] { sensitivity(weight, 0, metric, &statistics); }).code(), ErrorCode::kCalibration);
  }
  EXPECT_EQ(thrown_error([&] { sensitivity(weight, 2, Metric::kWeightQuantizationError); }).code(),
            ErrorCode::kInvalidArgument);
}

TEST(AssignPrecision, IsNncfs) {
  std::ifstream file(data_file("compression/mixed_precision.json"));
  int mixed = 0;
  for (const auto& c : nlohmann::json::parse(file)) {
    const auto primary =
        assign_precision(c["scores"].get<std::vector<double>>(), c["sizes"].get<std::vector<int64_t>>(), c["ratio"]);
    EXPECT_EQ(primary, c["primary"].get<std::vector<bool>>()) << c["key"];
    const auto count = std::count(primary.begin(), primary.end(), true);
    if (count > 0 && count < static_cast<int64_t>(primary.size())) ++mixed;
  }
  EXPECT_GE(mixed, 20);
}

TEST(AssignPrecision, StopsAtTheFirstWeightThatReachesTheRatio) {
  const std::vector<int64_t> sizes{40, 30, 20, 10};
  const auto with = [&](const std::vector<double>& scores, double ratio) {
    return assign_precision(scores, sizes, ratio);
  };
  EXPECT_EQ(with({1, 2, 3, 4}, 1), (std::vector<bool>{true, true, true, true}));
  EXPECT_EQ(with({1, 2, 3, 4}, 0), (std::vector<bool>{false, false, false, false}));
  EXPECT_EQ(with({1, 2, 3, 4}, 0.71), (std::vector<bool>{true, true, false, false}));
  EXPECT_EQ(with({1, 2, 3, 4}, 0.7), (std::vector<bool>{true, false, false, false}));
  // The last one would fit, but comes behind one that does not.
  EXPECT_EQ(with({1, 2, 3, 4}, 0.55), (std::vector<bool>{true, false, false, false}));
  EXPECT_EQ(with({4, 3, 2, 1}, 0.55), (std::vector<bool>{false, false, true, true}));
  EXPECT_EQ(with({1, 1, 1, 1}, 0.45), (std::vector<bool>{true, false, false, false}));
  EXPECT_TRUE(assign_precision({}, {}, 0.5).empty());
}

TEST(AssignPrecision, RefusesWrongArguments) {
  const auto code = [](const std::vector<double>& scores, double ratio) {
    return thrown_error([&] { assign_precision(scores, {1}, ratio); }).code();
  };
  EXPECT_EQ(code({1}, 1.5), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({1}, -0.1), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({1}, NAN), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({NAN}, 0.5), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({1, 2}, 0.5), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing
