#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "numerics/qparams.h"
#include "observers/histogram_observer.h"
#include "observers/moving_average_observer.h"
#include "observers/range_estimators.h"
#include "support/support.h"
#include "unit/calibration/estimator_names.h"

namespace tsquant {
namespace {

using nlohmann::json;

json golden(const std::string& name) {
  std::ifstream file(testing::data_file("numerics/" + name));
  return json::parse(file);
}

std::vector<at::Tensor> read_stream(const json& batches) {
  static const std::vector<float> values = [] {
    std::ifstream file(testing::data_file("numerics/torchao_streams.bin"), std::ios::binary | std::ios::ate);
    std::vector<float> data(static_cast<size_t>(file.tellg()) / sizeof(float));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(data.size() * sizeof(float)));
    return data;
  }();
  std::vector<at::Tensor> result;
  for (const auto& batch : batches) {
    const auto shape = batch["shape"].get<std::vector<int64_t>>();
    const auto offset = batch["offset"].get<size_t>();
    int64_t size = 1;
    for (int64_t n : shape) size *= n;
    auto tensor = torch::empty(shape);
    std::copy_n(values.data() + offset, size, tensor.data_ptr<float>());
    result.push_back(tensor);
  }
  return result;
}

std::unique_ptr<Observer> observer_of(const json& record) {
  const std::string kind = record["observer"];
  const auto axis = record["ch_axis"].is_null() ? c10::optional<int64_t>() : record["ch_axis"].get<int64_t>();
  if (kind == "HistogramObserver") return std::make_unique<HistogramObserver>();
  if (kind.rfind("Moving", 0) == 0)
    return std::make_unique<MovingAverageObserver>(axis, record["constant"].get<double>());
  return std::make_unique<RangeEstimatorObserver>(RangeEstimatorParameters::minmax(), axis, false);
}

TEST(GoldenObserver, MeetsTorchAo) {
  const auto data = golden("torchao_observers.json");
  size_t histograms = 0;
  for (const auto& record : data["statistics"]) {
    auto observer = observer_of(record);
    for (const auto& batch : read_stream(data["streams"][record["stream"].get<std::string>()]))
      observer->observe(batch);
    const auto range = observer->range();
    const auto min = torch::tensor(record["min"].get<std::vector<float>>());
    const auto max = torch::tensor(record["max"].get<std::vector<float>>());
    const auto what = record["observer"].get<std::string>() + " on " + record["stream"].get<std::string>();
    if (record.contains("width")) {
      ++histograms;
      const double width = record["width"];
      EXPECT_LE((range.min - min).abs().item<double>(), width * 1.001) << what << range.min << min;
      EXPECT_LE((range.max - max).abs().item<double>(), width * 1.001) << what << range.max << max;
    } else {
      EXPECT_TRUE(at::equal(range.min, min)) << what << range.min << min;
      EXPECT_TRUE(at::equal(range.max, max)) << what << range.max << max;
    }
  }
  EXPECT_GE(histograms, 19u);
}

/// Runs the recorded inputs of a model through the observer that a configuration asks for.
Range observe_inputs(const json& record, const QuantizationSpec& spec) {
  const auto params = testing::estimator_of(record["estimator"]);
  auto observer = make_observer(spec, PointKind::kActivation, record["batchwise"], params);
  const auto inputs =
      torch::jit::load(testing::data_file("numerics/" + record["model"].get<std::string>() + ".inputs.pt"));
  for (int i = 0; i < record["samples"].get<int>(); ++i) {
    observer->observe(inputs.attr("x" + std::to_string(i)).toTensor());
  }
  return observer->range();
}

QuantizationSpec spec_of(const json& record) {
  QuantizationSpec spec;
  spec.mode = record["asymmetric"] ? QuantizationScheme::kAsymmetric : QuantizationScheme::kSymmetric;
  return spec;
}

TEST(GoldenObserver, MeetsNncfsRangeEstimators) {
  const auto records = golden("nncf_inputs.json");
  ASSERT_GT(records.size(), 100u);
  for (const auto& record : records) {
    const auto range = observe_inputs(record, spec_of(record));
    const auto what = record.dump();
    const double min = record["min"], max = record["max"];
    EXPECT_NEAR(range.min.item<double>(), min, 1e-6 * std::abs(min)) << what;
    EXPECT_NEAR(range.max.item<double>(), max, 1e-6 * std::abs(max)) << what;
  }
}

TEST(GoldenObserver, MeetsTheParametersOfQuantizePt2e) {
  const auto records = golden("nncf_fx_inputs.json");
  ASSERT_GT(records.size(), 50u);
  for (const auto& record : records) {
    const auto spec = spec_of(record);
    const auto q = choose_qparams(observe_inputs(record, spec), spec, PointKind::kActivation);
    const double scale = record["scale"];
    EXPECT_NEAR(q.scale.item<double>(), scale, 1e-6 * scale) << record.dump();
    EXPECT_EQ(q.zero_point.item<int64_t>(), record["zero_point"].get<int64_t>()) << record.dump();
    EXPECT_EQ(q.dtype, record["dtype"] == "torch.int8" ? c10::kChar : c10::kByte) << record.dump();
  }
}

}  // namespace
}  // namespace tsquant
