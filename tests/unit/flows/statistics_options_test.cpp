#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/files.h"
#include "support/support.h"

namespace tsquant::testing::statistics_options_test {
namespace {

const char* kNet = R"(
def forward(self, x):
    y = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    z = torch.conv2d(y, self.w2, self.b2)
    return torch.linear(torch.flatten(torch.adaptive_avg_pool2d(torch.relu(z + y), [1, 1]), 1), self.w3, self.b3)
)";

/// The path of a small float model.
std::string model_file(const std::string& folder, double scale = 1) {
  at::manual_seed(1);
  const auto module = define(kNet, {{"w1", at::randn({8, 3, 3, 3}) * scale},
                                    {"b1", at::randn({8})},
                                    {"w2", at::randn({8, 8, 1, 1})},
                                    {"b2", at::randn({8})},
                                    {"w3", at::randn({10, 8})},
                                    {"b3", at::randn({10})}});
  module.save(folder + "/model.pt");
  return folder + "/model.pt";
}

std::vector<at::Tensor> images(int64_t count = 9) {
  at::manual_seed(2);
  std::vector<at::Tensor> tensors;
  for (int64_t i = 0; i < count; ++i) tensors.push_back(at::randn({1, 3, 12, 12}) * (1 + 0.2 * i));
  return tensors;
}

/// Quantizes and returns the bytes of the written file.
std::string quantized(const std::string& model_path, const Dataset& data, const QuantizePt2eOptions& options,
                      const OpenVINOQuantizerOptions& placement = {}) {
  auto model = Model::load(model_path);
  OpenVINOQuantizer quantizer(placement);
  const auto result = quantize_pt2e(model, quantizer, data, options);
  const auto path = temp_dir() + "/q.pt";
  result.save(path);
  return bytes_of(path);
}

/// A data set that counts how often a model was run on it.
struct Fixture {
  std::string folder = temp_dir();
  std::string model = model_file(folder);
  Dataset data = Dataset::from_tensors(images());
  int64_t progress = 0;

  QuantizePt2eOptions options(const std::string& in, const std::string& out = "") {
    QuantizePt2eOptions result;
    result.statistics_in = in;
    result.statistics_out = out;
    result.progress = [this](const std::string&, int64_t, int64_t) { return ++progress > 0; };
    return result;
  }
  Error failure(const QuantizePt2eOptions& options, const std::string& model_path, const Dataset& samples,
                const OpenVINOQuantizerOptions& placement = {}) {
    try {
      quantized(model_path, samples, options, placement);
    } catch (const Error& error) {
      return error;
    }
    return Error(ErrorCode::kInternal, "no error");
  }
};

TEST(StatisticsOptions, ASecondRunFromTheFileIsBitwiseEqual) {
  Fixture f;
  const auto file = f.folder + "/stats.pt";
  const auto plain = quantized(f.model, f.data, f.options(""));
  EXPECT_EQ(quantized(f.model, f.data, f.options("", file)), plain);
  f.progress = 0;
  EXPECT_EQ(quantized(f.model, f.data, f.options(file)), plain);
  EXPECT_EQ(f.progress, 2) << "no sample is run";
}

/// Counts the convolutions that calibration runs on this thread (deterministic_ops.h).
class ConvolutionCount {
 public:
  ConvolutionCount()
      : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(&count).scopes({at::RecordScope::FUNCTION}))) {
    total_ = 0;
  }
  ~ConvolutionCount() { at::removeCallback(handle_); }
  int64_t total() const { return total_; }

 private:
  static std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& function) {
    if (std::string(function.name()) == "tsquant::deterministic_conv2d") ++total_;
    return nullptr;
  }

  static inline int64_t total_ = 0;
  at::CallbackHandle handle_;
};

TEST(StatisticsOptions, TheModelIsNotRunWhenStatisticsAreRead) {
  Fixture f;
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto convolutions = [&](const QuantizePt2eOptions& options) {
    const ConvolutionCount count;
    quantized(f.model, f.data, options);
    return count.total();
  };
  const auto file = f.folder + "/stats.pt";
  EXPECT_EQ(convolutions(f.options("", file)), 2 * 9) << "two convolutions, nine samples";
  EXPECT_EQ(convolutions(f.options(file)), 0);
  QuantizePt2eOptions cached;
  cached.statistics_path = f.folder + "/cache";
  EXPECT_EQ(convolutions(cached), 2 * 9);
  EXPECT_EQ(convolutions(cached), 0);
  at::set_num_threads(threads);
}

TEST(StatisticsOptions, DamagedFilesAreNamed) {
  Fixture f;
  const auto file = f.folder + "/stats.pt";
  quantized(f.model, f.data, f.options("", file));
  const auto whole = bytes_of(file);
  const auto write = [&](const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; };
  // Cut off at the end and in the middle, and empty.
  std::vector<std::string> damaged{whole.substr(0, whole.size() - 10), whole.substr(0, whole.size() / 2), ""};
  for (const auto& bytes : damaged) {
    write(bytes);
    const auto error = f.failure(f.options(file), f.model, f.data);
    EXPECT_EQ(error.code(), ErrorCode::kCalibration) << error.what();
    EXPECT_EQ(error.message(), "the statistics file is damaged or no archive");
    EXPECT_EQ(error.place(), file);
  }
  write(whole);
  EXPECT_NO_THROW(quantized(f.model, f.data, f.options(file)));
}

TEST(StatisticsOptions, ARunThatFailsLeavesTheOldFile) {
  Fixture f;
  const auto file = f.folder + "/stats.pt";
  quantized(f.model, f.data, f.options("", file));
  const auto before = bytes_of(file);
  auto tensors = images();
  tensors[5][0][0][0][0] = NAN;
  EXPECT_EQ(f.failure(f.options("", file), f.model, Dataset::from_tensors(tensors)).code(), ErrorCode::kCalibration);
  EXPECT_EQ(bytes_of(file), before);
}

TEST(StatisticsOptions, CoversEveryCollectionOfTheFlow) {
  Fixture f;
  const auto file = f.folder + "/stats.pt";
  auto options = f.options("", file);
  options.smooth_quant = true;
  options.smooth_quant_params.convolution = 0.5;
  options.activations_range_estimator_params = RangeEstimatorParameters::histogram();
  const auto first = quantized(f.model, f.data, options);
  options.statistics_out = "";
  options.statistics_in = file;
  f.progress = 0;
  EXPECT_EQ(quantized(f.model, f.data, options), first);
  EXPECT_LE(f.progress, 4);
  // A file without the statistics that SmoothQuant needs.
  quantized(f.model, f.data, f.options("", file));
  const auto error = f.failure(options, f.model, f.data);
  EXPECT_EQ(error.code(), ErrorCode::kCalibration);
  EXPECT_NE(error.message().find("no statistics of the collection \"smooth_quant\", only of: activations"),
            std::string::npos)
      << error.what();
}

TEST(StatisticsOptions, AMismatchNamesTheKey) {
  Fixture f;
  const auto file = f.folder + "/stats.pt";
  quantized(f.model, f.data, f.options("", file));
  const auto expect_key = [&](const Error& error, const std::string& key) {
    EXPECT_EQ(error.code(), ErrorCode::kCalibration);
    EXPECT_EQ(error.place(), file);
    EXPECT_EQ(error.message().find("the statistics and this run differ: " + key + " is \""), 0u) << error.what();
  };
  expect_key(f.failure(f.options(file), model_file(temp_dir(), 2), f.data), "model");
  auto tensors = images();
  tensors[8][0][2][11][11] += 1e-3;
  expect_key(f.failure(f.options(file), f.model, Dataset::from_tensors(tensors)), "data");
  auto options = f.options(file);
  options.subset_size = 5;
  const auto fewer = f.failure(options, f.model, f.data);
  expect_key(fewer, "data");
  EXPECT_NE(fewer.message().find("subset_size is \"9\" instead of \"5\""), std::string::npos) << fewer.what();
  options = f.options(file);
  options.batchwise_statistics = true;
  expect_key(f.failure(options, f.model, f.data), "batchwise_statistics");
  options = f.options(file);
  options.activations_range_estimator_params = RangeEstimatorParameters::median_minmax();
  expect_key(f.failure(options, f.model, f.data), "activations_range_estimator_params");
  options = f.options(file);
  options.fast_bias_correction = c10::nullopt;
  const auto uncorrected = f.failure(options, f.model, f.data);
  expect_key(uncorrected, "bias_correction");
  EXPECT_NE(uncorrected.message().find("bias_correction is \"fast\" instead of \"none\""), std::string::npos);
  OpenVINOQuantizerOptions mixed;
  mixed.preset = QuantizationPreset::kMixed;
  const auto preset = f.failure(f.options(file), f.model, f.data, mixed);
  EXPECT_EQ(preset.message(), "the statistics and this run differ: preset is \"performance\" instead of \"mixed\"");
}

TEST(StatisticsOptions, SettingsThatChangeNoStatisticMayDiffer) {
  Fixture f;
  const auto file = f.folder + "/stats.pt";
  quantized(f.model, f.data, f.options("", file));
  OpenVINOQuantizerOptions placement;
  placement.overflow_fix = OverflowFix::kDisable;
  placement.target_device = TargetDevice::kCpu;
  f.progress = 0;
  EXPECT_NO_THROW(quantized(f.model, f.data, f.options(file), placement));
  EXPECT_EQ(f.progress, 2) << "no sample is run";
}

TEST(StatisticsOptions, TheFolderIsReadAndWritten) {
  Fixture f;
  QuantizePt2eOptions options = f.options("");
  options.statistics_path = f.folder + "/cache/of/runs";
  const auto first = quantized(f.model, f.data, options);
  const auto runs = f.progress;
  f.progress = 0;
  EXPECT_EQ(quantized(f.model, f.data, options), first);
  EXPECT_LT(f.progress, runs);
  const auto files = [&] {
    const std::filesystem::directory_iterator entries(options.statistics_path);
    return std::distance(begin(entries), end(entries));
  };
  EXPECT_EQ(files(), 1);
  // Other settings are collected and kept beside.
  options.subset_size = 4;
  f.progress = 0;
  quantized(f.model, f.data, options);
  EXPECT_GE(f.progress, 4);
  EXPECT_EQ(files(), 2);
}

TEST(StatisticsOptions, AFileAndAFolderToReadExcludeEachOther) {
  Fixture f;
  auto options = f.options(f.folder + "/stats.pt");
  options.statistics_path = f.folder;
  const auto error = f.failure(options, f.model, f.data);
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error.place(), "statistics_in");
}

TEST(StatisticsOptions, AMissingFileIsNamed) {
  Fixture f;
  const auto error = f.failure(f.options(f.folder + "/absent.pt"), f.model, f.data);
  EXPECT_EQ(error.message(), "the statistics file does not exist");
  EXPECT_EQ(error.place(), f.folder + "/absent.pt");
}

/// Images of a size at which LibTorch uses several threads, and other convolutions for other batches and threads.
at::Tensor large_images(int64_t count) {
  at::manual_seed(3);
  return at::randn({count, 3, 64, 96}) * at::linspace(0.5, 3, count).reshape({count, 1, 1, 1});
}

/// Sizes that no vector divides, so that the threads' shares of element-wise work end in the middle of one.
const char* kMixedNet = R"(
def forward(self, x):
    y = torch.sigmoid(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    z = torch.flatten(y, 2).transpose(1, 2)
    z = torch.silu(torch.linear(z, self.w2, self.b2))
    a = torch.softmax(torch.matmul(z, z.transpose(1, 2)), 1)
    return torch.linear(torch.matmul(a, z).mean([1]), self.w3, self.b3)
)";

TEST(StatisticsOptions, ThreadsChangeNeitherTheFileNorTheBiases) {
  at::manual_seed(1);
  const auto folder = temp_dir();
  define(kMixedNet, {{"w1", at::randn({7, 3, 3, 3})},
                     {"b1", at::randn({7})},
                     {"w2", at::randn({37, 7})},
                     {"b2", at::randn({37})},
                     {"w3", at::randn({10, 37})},
                     {"b3", at::randn({10})}})
      .save(folder + "/model.pt");
  const int threads = at::get_num_threads();
  const auto data = Dataset::from_rows({at::randn({10, 3, 33, 39})}, 1);
  for (const c10::optional<bool>& fast : {c10::optional<bool>(true), c10::optional<bool>(false)}) {
    for (const bool smooth : {false, true}) {
      QuantizePt2eOptions options;
      options.fast_bias_correction = fast;
      options.smooth_quant = smooth;
      std::vector<std::string> files;
      for (const int count : {1, 2, 3}) {
        at::set_num_threads(count);
        files.push_back(quantized(folder + "/model.pt", data, options));
      }
      EXPECT_TRUE(files[1] == files[0]) << "fast " << *fast << ", smooth " << smooth;
      EXPECT_TRUE(files[2] == files[0]) << "fast " << *fast << ", smooth " << smooth;
    }
  }
  at::set_num_threads(threads);
}

TEST(StatisticsOptions, ThreadsDoNotChangeTheFile) {
  Fixture f;
  const int threads = at::get_num_threads();
  const auto data = Dataset::from_rows({large_images(8)}, 2);
  for (const auto& estimator : {RangeEstimatorParameters{}, RangeEstimatorParameters::histogram(),
                                RangeEstimatorParameters::mean_quantile(), RangeEstimatorParameters::minmax()}) {
    QuantizePt2eOptions options;
    options.activations_range_estimator_params = estimator;
    at::set_num_threads(1);
    const auto one = quantized(f.model, data, options);
    at::set_num_threads(2);
    EXPECT_EQ(quantized(f.model, data, options), one) << "histogram or another estimator";
  }
  at::set_num_threads(threads);
}

/// Scales and zero points of the activations by quantizer.
std::vector<at::Tensor> activation_parameters(const std::string& model_path, const Dataset& data,
                                              const QuantizePt2eOptions& options) {
  auto model = Model::load(model_path);
  OpenVINOQuantizer quantizer;
  const auto result = quantize_pt2e(model, quantizer, data, options);
  std::vector<at::Tensor> parameters;
  for (const auto& record : result.report.quantizers) {
    if (record.kind != "activation") continue;
    parameters.push_back(at::tensor(record.scale, at::kDouble));
    parameters.push_back(at::tensor(record.zero_point, at::kLong));
  }
  return parameters;
}

TEST(StatisticsOptions, TheBatchSizeDoesNotChangeRangesThatAreTakenPerItem) {
  Fixture f;
  const auto rows = large_images(50);
  const auto one = Dataset::from_rows({rows}, 1), fifty = Dataset::from_rows({rows}, 50);
  for (const auto& estimator :
       {RangeEstimatorParameters{}, RangeEstimatorParameters::minmax(), RangeEstimatorParameters::median_minmax()}) {
    QuantizePt2eOptions options;
    options.activations_range_estimator_params = estimator;
    options.batchwise_statistics = true;
    const auto a = activation_parameters(f.model, one, options), b = activation_parameters(f.model, fifty, options);
    ASSERT_GE(a.size(), 4u);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << a[i] << b[i];
  }
  // The mean over batches is another number than the mean over items.
  QuantizePt2eOptions whole;
  whole.batchwise_statistics = false;
  EXPECT_FALSE(
      at::equal(activation_parameters(f.model, one, whole)[0], activation_parameters(f.model, fifty, whole)[0]));
}

}  // namespace
}  // namespace tsquant::testing::statistics_options_test
