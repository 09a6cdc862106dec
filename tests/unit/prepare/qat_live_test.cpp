// Training in torch.ao and here, from one state on one machine: every step computes the same.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/tsquant.h>

#include <algorithm>

#include "support/support.h"
#include "unit/prepare/python_records.h"
#include "unit/prepare/qat_training.h"

namespace tsquant::testing::qat_live {
namespace {

constexpr int64_t kSteps = 8;
constexpr double kBar = 1e-5;

struct Case {
  std::string backend;
  int64_t version;
};

class QatLive : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    at::set_num_threads(1);  // as the script
    records_ = python_records(
        "python_qat.py", fmt::format("'{}' {} {} {}", data_file("fx"), GetParam().backend, GetParam().version, kSteps));
    if (records_.empty()) GTEST_SKIP() << "Python has no torch";
  }
  void TearDown() override { at::set_num_threads(threads_); }

  NamedTensors of_step(size_t step, const std::string& kind) const {
    const std::string prefix = fmt::format("{}/{}/", step, kind);
    NamedTensors found;
    for (const auto& [name, value] : records_) {
      if (name.rfind(prefix, 0) == 0) found[name.substr(prefix.size())] = value;
    }
    return found;
  }

  std::vector<TrainingStep> trained_here() const {
    std::vector<at::Tensor> batches;
    for (int64_t i = 0; i < kSteps; ++i) batches.push_back(records_.at(fmt::format("batch/{}", i)));
    auto module = fx::prepare_qat_fx(Model::load(data_file("fx/qat_net.pt")),
                                     fx::get_default_qat_qconfig_mapping(GetParam().backend, GetParam().version),
                                     {{batches[0]}, {}});
    return train_steps(module, batches);
  }

  NamedTensors records_;
  int threads_ = at::get_num_threads();
};

std::string fake_quantize_of(const std::string& call) { return call.substr(0, call.find('#')); }

/// The call with this output, of those that are not taken yet.
std::string find_call(const NamedTensors& calls, const at::Tensor& output,
                      const std::map<std::string, std::string>& taken) {
  for (const auto& [name, value] : calls) {
    const bool is_free =
        std::none_of(taken.begin(), taken.end(), [&, call = name](const auto& entry) { return entry.second == call; });
    if (is_free && value.sizes() == output.sizes() && at::allclose(value, output, 0, kBar)) return name;
  }
  return "";
}

void expect_near(const at::Tensor& actual, const at::Tensor& expected, double bar = kBar) {
  ASSERT_EQ(actual.numel(), expected.numel());
  const at::Tensor error = (actual.to(at::kDouble).reshape(-1) - expected.to(at::kDouble).reshape(-1)).abs();
  EXPECT_LE(error.max().item<double>(), bar);
}

TEST_P(QatLive, EveryStepComputesWhatTorchAoComputes) {
  const auto steps = trained_here();
  std::map<std::string, std::string> ours;  // of torch.ao's calls of fake quantizes
  for (const auto& [name, output] : of_step(0, "fq")) {
    ours[name] = find_call(steps[0].fake_quantized, output, ours);
    ASSERT_NE(ours[name], "") << "no fake quantize gives what " << name << " gives";
  }
  ASSERT_GE(ours.size(), 7U);
  for (size_t i = 0; i < steps.size(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    expect_near(steps[i].out, records_.at(fmt::format("{}/out", i)));
    EXPECT_NEAR(steps[i].loss, records_.at(fmt::format("{}/loss", i)).item<double>(), kBar);
    const auto scales = of_step(i, "scale"), zero_points = of_step(i, "zero_point");
    for (const auto& [name, output] : of_step(i, "fq")) {
      SCOPED_TRACE(name);
      const std::string theirs = fake_quantize_of(name), own = fake_quantize_of(ours.at(name));
      expect_near(steps[i].fake_quantized.at(ours.at(name)), output);
      expect_near(steps[i].scales.at(own) / scales.at(theirs), at::ones_like(scales.at(theirs)));
      expect_near(steps[i].zero_points.at(own), zero_points.at(theirs), 0);
    }
    const auto gradients = of_step(i, "grad");
    ASSERT_EQ(gradients.size(), steps[i].gradients.size());
    for (const auto& [name, gradient] : gradients) {
      SCOPED_TRACE(name);
      ASSERT_EQ(steps[i].gradients.count(name), 1U);
      expect_near(steps[i].gradients.at(name), gradient);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(cases, QatLive,
                         ::testing::Values(Case{"onednn", 0}, Case{"onednn", 1}, Case{"x86", 0}, Case{"qnnpack", 1}),
                         [](const auto& info) {
                           return info.param.backend + "_" + std::to_string(info.param.version);
                         });

}  // namespace
}  // namespace tsquant::testing::qat_live
