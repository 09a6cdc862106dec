// CompressPt2eOptions::resume_dir: a later call takes what an earlier one has finished, and nothing else.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "small_lm.h"
#include "support/thrown_error.h"

namespace tsquant {
namespace {

namespace fs = std::filesystem;
using testing::int4_options;
using testing::small_lm;
using testing::thrown_error;
using testing::token_data;

CompressWeightsOptions gptq_options(const std::string& folder) {
  auto options = int4_options();
  options.gptq = true;
  options.dataset = token_data();
  options.resume_dir = folder;
  return options;
}

CompressedModel compress_lm(const CompressWeightsOptions& options) {
  Model model = small_lm();
  return compress_weights(model, options);
}

void expect_equal(const CompressedModel& a, const CompressedModel& b) {
  EXPECT_EQ(a.report.to_json(/*per_channel=*/false), b.report.to_json(/*per_channel=*/false));
  const auto of_a = a.model.module().named_attributes(), of_b = b.model.module().named_attributes();
  auto other = of_b.begin();
  for (const auto& attribute : of_a) {
    ASSERT_EQ(attribute.name, (*other).name);
    if (attribute.value.isTensor()) {
      EXPECT_TRUE(at::equal(attribute.value.toTensor(), (*other).value.toTensor()));
    }
    ++other;
  }
}

TEST(ResumeDir, ACancelledRunIsContinued) {
  const std::string folder = testing::temp_dir() + "/kept";
  const auto whole = compress_lm(gptq_options(""));
  auto options = gptq_options(folder);
  options.progress = [](const std::string& phase, int64_t done, int64_t) { return phase != "layers" || done < 2; };
  EXPECT_EQ(thrown_error([&] { compress_lm(options); }).code(), ErrorCode::kCancelled);
  const auto continued = compress_lm(gptq_options(folder));
  EXPECT_EQ(continued.reused.layers, 2);
  EXPECT_TRUE(continued.reused.notes.empty());
  expect_equal(continued, whole);
  const auto again = compress_lm(gptq_options(folder));
  EXPECT_EQ(again.reused.layers, 3) << "the folder stays";
  expect_equal(again, whole);
  EXPECT_EQ(whole.reused.layers, 0);
}

TEST(ResumeDir, SearchesWithoutDataAreKeptToo) {
  auto options = int4_options();
  options.quality = CompressionQuality::kBest;
  const auto whole = compress_lm(options);
  options.resume_dir = testing::temp_dir() + "/kept";
  auto cancelled = options;
  cancelled.progress = [](const std::string& phase, int64_t done, int64_t) { return phase != "compress" || done < 2; };
  EXPECT_EQ(thrown_error([&] { compress_lm(cancelled); }).code(), ErrorCode::kCancelled);
  const auto continued = compress_lm(options);
  EXPECT_EQ(continued.reused.layers, 2);
  expect_equal(continued, whole);
}

TEST(ResumeDir, SamplesRunOnceForStatistics) {
  auto options = gptq_options(testing::temp_dir() + "/kept");
  options.gptq = false;
  options.scale_estimation = options.awq = true;
  int calibrated = 0;
  options.progress = [&](const std::string& phase, int64_t, int64_t) {
    calibrated += phase == "calibrate";
    return true;
  };
  const auto first = compress_lm(options);
  const int once = calibrated;
  EXPECT_GE(once, 12);
  const auto second = compress_lm(options);
  EXPECT_EQ(calibrated, once);
  EXPECT_EQ(second.report.samples, 12);
  expect_equal(first, second);
}

TEST(ResumeDir, WhatDecidesIsPartOfTheKey) {
  const std::string folder = testing::temp_dir() + "/kept";
  compress_lm(gptq_options(folder));
  const auto reused = [&](const std::function<void(CompressWeightsOptions&)>& change) {
    auto options = gptq_options(folder);
    change(options);
    return compress_lm(options).reused.layers;
  };
  EXPECT_EQ(reused([](auto& o) { o.form = OutputForm::kLowered; }), 3);
  EXPECT_EQ(reused([](auto& o) { o.progress = [](const std::string&, int64_t, int64_t) { return true; }; }), 3);
  EXPECT_EQ(reused([](auto& o) { o.group_size = 8; }), 0);
  EXPECT_EQ(reused([](auto& o) { o.backup_mode = BackupMode::kInt8Sym; }), 0);
  EXPECT_EQ(reused([](auto& o) { o.dataset = token_data(11); }), 0);
  EXPECT_EQ(reused([](auto& o) { o.advanced_parameters.gptq_params.block_size = 8; }), 0);
  auto options = gptq_options(folder);
  Model other = small_lm();
  {
    at::NoGradGuard no_grad;
    other.module().attr("head").toTensor()[0][0] += 1;
  }
  EXPECT_EQ(compress_weights(other, options).reused.layers, 0);
}

TEST(ResumeDir, AFolderThatCannotBeWrittenIsSaidBeforeTheWork) {
  const std::string file = testing::temp_dir() + "/file";
  std::ofstream(file) << "text";
  const auto error = thrown_error([&] { compress_lm(gptq_options(file)); });
  EXPECT_EQ(error.code(), ErrorCode::kIo);
  EXPECT_EQ(error.place(), file);
}

TEST(ResumeDir, PlainRoundingKeepsNothing) {
  const std::string folder = testing::temp_dir() + "/kept";
  auto options = int4_options();
  options.resume_dir = folder;
  compress_lm(options);
  EXPECT_FALSE(fs::exists(folder));
}

}  // namespace
}  // namespace tsquant
