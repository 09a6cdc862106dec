// Every row of NNCF's table of checks, in its order, with the option that the message is about.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "small_lm.h"
#include "support/thrown_error.h"

namespace tsquant {
namespace {

using Mode = CompressWeightsMode;
using testing::int4_options;
using testing::small_lm;
using testing::thrown_error;
using testing::token_data;

struct BadCase {
  const char* place;
  const char* part;  ///< of the message
  std::function<void(CompressWeightsOptions&)> change;
};

Error error_of(const CompressWeightsOptions& options) {
  return thrown_error([&] {
    Model model = small_lm();
    compress_weights(model, options);
  });
}

void expect_refused(const CompressWeightsOptions& base, const std::vector<BadCase>& cases) {
  for (const auto& bad : cases) {
    CompressWeightsOptions options = base;
    bad.change(options);
    const Error error = error_of(options);
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << bad.place;
    EXPECT_EQ(error.place(), bad.place) << error.what();
    EXPECT_NE(error.message().find(bad.part), std::string::npos) << error.what();
    EXPECT_FALSE(error.advice().empty()) << error.what();
  }
}

TEST(CompressChecks, ModesOfEightBitsCompressEverythingAlike) {
  using O = CompressWeightsOptions;
  expect_refused(
      {}, {{"ratio", "int8_asym compresses all weights", [](O& o) { o.ratio = 0.5; }},
           {"group_size", "one scale per channel", [](O& o) { o.group_size = 32; }},
           {"statistics_path", "needs no statistics", [](O& o) { o.advanced_parameters.statistics_path = "/tmp"; }},
           {"all_layers", "all_layers, awq", [](O& o) { o.all_layers = o.awq = true; }},
           {"backup_mode", "backup_mode", [](O& o) { o.backup_mode = BackupMode::kInt8Sym; }},
           {"sensitivity_metric", "sensitivity_metric",
            [](O& o) { o.sensitivity_metric = SensitivityMetric::kWeightQuantizationError; }},
           {"scale_estimation", "does not go together", [](O& o) { o.scale_estimation = true; }},
           {"gptq", "does not go together", [](O& o) { o.gptq = true; }},
           {"lora_correction", "does not go together", [](O& o) { o.lora_correction = true; }},
           {"target_size", "fewer than 8 bits", [](O& o) { o.target_size = 0.3; }}});
}

TEST(CompressChecks, ModesOfEightBitsLeaveDataAside) {
  CompressWeightsOptions options;
  options.mode = Mode::kInt8;
  options.dataset = Dataset(1, [](int64_t) -> Sample { throw Error(ErrorCode::kDataset, "read"); });
  Model model = small_lm();
  const auto result = compress_weights(model, options);
  ASSERT_GE(result.report.warnings.size(), 2U);
  EXPECT_NE(result.report.warnings[0].find("deprecated"), std::string::npos);
  EXPECT_NE(result.report.warnings[1].find("uses no data"), std::string::npos);
  EXPECT_EQ(result.report.weights.front().format, "int8_asym");
}

TEST(CompressChecks, NumbersHaveLimits) {
  using O = CompressWeightsOptions;
  expect_refused(int4_options(), {{"ratio", "ratio is 1.5", [](O& o) { o.ratio = 1.5; }},
                                  {"ratio", "ratio is", [](O& o) { o.ratio = std::nan(""); }},
                                  {"subset_size", "subset_size is 0", [](O& o) { o.subset_size = 0; }},
                                  {"advanced_parameters.lora_adapter_rank", "is 0",
                                   [](O& o) { o.advanced_parameters.lora_adapter_rank = 0; }},
                                  {"group_size", "group_size is 0", [](O& o) { o.group_size = 0; }},
                                  {"group_size", "group_size is -2", [](O& o) { o.group_size = -2; }},
                                  {"target_size", "target_size is 0", [](O& o) { o.target_size = 0; }},
                                  {"advanced_parameters.lora_correction_params.adapter_rank", "is 0",
                                   [](O& o) { o.advanced_parameters.lora_correction_params.adapter_rank = 0; }},
                                  {"advanced_parameters.awq_params.subset_size", "is 0",
                                   [](O& o) { o.advanced_parameters.awq_params.subset_size = 0; }},
                                  {"advanced_parameters.scale_estimation_params.subset_size", "is -1",
                                   [](O& o) { o.advanced_parameters.scale_estimation_params.subset_size = -1; }},
                                  {"advanced_parameters.gptq_params.subset_size", "is 0",
                                   [](O& o) { o.advanced_parameters.gptq_params.subset_size = 0; }},
                                  {"awq_params.alpha_min", "above alpha_max", [](O& o) {
                                     o.awq = true;
                                     o.advanced_parameters.awq_params.alpha_min = 2;
                                   }}});
}

TEST(CompressChecks, DataAwareOptionsNeedData) {
  using O = CompressWeightsOptions;
  expect_refused(int4_options(),
                 {{"sensitivity_metric", "needs data",
                   [](O& o) { o.sensitivity_metric = SensitivityMetric::kMaxActivationVariance; }},
                  {"scale_estimation", "needs data", [](O& o) { o.scale_estimation = true; }},
                  {"gptq", "needs data", [](O& o) { o.gptq = true; }},
                  {"lora_correction", "needs data", [](O& o) { o.lora_correction = true; }},
                  {"mode", "adaptive_codebook needs data", [](O& o) { o.mode = Mode::kAdaptiveCodebook; }}});
}

TEST(CompressChecks, SomeOptionsExcludeEachOther) {
  using O = CompressWeightsOptions;
  auto with_data = int4_options();
  with_data.dataset = token_data();
  expect_refused(with_data, {{"lora_correction", "cannot be combined", [](O& o) { o.gptq = o.lora_correction = true; }},
                             {"compression_format", "needs the compression format",
                              [](O& o) {
                                o.lora_correction = true;
                                o.compression_format = CompressionFormat::kFQ;
                              }},
                             {"compression_format", "needs the compression format",
                              [](O& o) {
                                o.lora_correction = true;
                                o.compression_format = CompressionFormat::kFQLora;
                              }},
                             {"mode", "not for nvfp4",
                              [](O& o) {
                                o.lora_correction = true;
                                o.mode = Mode::kNvFp4;
                                o.group_size = 16;
                              }},
                             {"awq", "4 and less bits",
                              [](O& o) {
                                o.awq = true;
                                o.mode = Mode::kFp8E4M3;
                              }},
                             {"scale_estimation", "4 and less bits",
                              [](O& o) {
                                o.scale_estimation = true;
                                o.mode = Mode::kMxFp8E4M3;
                                o.group_size = 32;
                              }},
                             {"compression_format", "cannot be trained",
                              [](O& o) {
                                o.mode = Mode::kNf4;
                                o.compression_format = CompressionFormat::kFQ;
                              }},
                             {"gptq", "quality best",
                              [](O& o) {
                                o.gptq = true;
                                o.quality = CompressionQuality::kBest;
                              }},
                             {"target_size", "both set",
                              [](O& o) {
                                o.target_size = 0.3;
                                o.target_bits_per_weight = 4;
                              }},
                             {"target_size", "both set",
                              [](O& o) {
                                o.target_size = 0.3;
                                o.ratio = 0.5;
                              }},
                             {"advanced_parameters.gptq_params.damp_percent", "gptq is false",
                              [](O& o) { o.advanced_parameters.gptq_params.damp_percent = 0.2; }},
                             {"advanced_parameters.lora_adapter_rank", "the compression format is dequantize",
                              [](O& o) { o.advanced_parameters.lora_adapter_rank = 8; }},
                             {"backend_params", "unknown backend parameter",
                              [](O& o) { o.advanced_parameters.backend_params["lora_rank"] = "4"; }}});
}

TEST(CompressChecks, CodebooksAndFixedGroups) {
  using O = CompressWeightsOptions;
  expect_refused(int4_options(), {{"codebook", "needs levels", [](O& o) { o.mode = Mode::kCodebook; }},
                                  {"codebook", "ascending",
                                   [](O& o) {
                                     o.mode = Mode::kCodebook;
                                     o.advanced_parameters.codebook = {0, 1, 1};
                                   }},
                                  {"codebook", "at least 2 finite levels",
                                   [](O& o) {
                                     o.mode = Mode::kCodebook;
                                     o.advanced_parameters.codebook = {1};
                                   }},
                                  {"codebook", "finite",
                                   [](O& o) {
                                     o.mode = Mode::kCodebook;
                                     o.advanced_parameters.codebook = {0, std::nanf(""), 1};
                                   }},
                                  {"codebook", "finite",
                                   [](O& o) {
                                     o.mode = Mode::kCodebook;
                                     o.advanced_parameters.codebook = {0, HUGE_VALF};
                                   }},
                                  {"codebook", "the mode is int4_sym",
                                   [](O& o) {
                                     o.advanced_parameters.codebook = {0, 1};
                                   }},
                                  {"group_size", "groups of 32", [](O& o) { o.mode = Mode::kMxFp4; }},
                                  {"group_size", "groups of 32", [](O& o) { o.mode = Mode::kMxFp8E4M3; }},
                                  {"group_size", "groups of 16",
                                   [](O& o) {
                                     o.mode = Mode::kNvFp4;
                                     o.group_size = 32;
                                   }},
                                  {"group_size_fallback_mode", "nvfp4 cannot be adjusted",
                                   [](O& o) {
                                     o.mode = Mode::kNvFp4;
                                     o.advanced_parameters.group_size_fallback_mode = GroupSizeFallbackMode::kAdjust;
                                   }},
                                  {"group_size_fallback_mode", "mxfp8_e4m3 cannot be adjusted",
                                   [](O& o) {
                                     o.mode = Mode::kMxFp8E4M3;
                                     o.group_size = 32;
                                     o.advanced_parameters.group_size_fallback_mode = GroupSizeFallbackMode::kAdjust;
                                   }},
                                  {"group_size_fallback_mode", "cannot be adjusted", [](O& o) {
                                     o.mode = Mode::kMxFp4;
                                     o.group_size = 32;
                                     o.advanced_parameters.group_size_fallback_mode = GroupSizeFallbackMode::kAdjust;
                                   }}});
}

TEST(CompressChecks, AdaptiveCodebooksFitWhatIsGiven) {
  using O = CompressWeightsOptions;
  auto adaptive = int4_options();
  adaptive.mode = Mode::kAdaptiveCodebook;
  adaptive.dataset = token_data();
  expect_refused(adaptive, {{"adaptive_codebook_params.num_elements", "num_elements is 16, but the codebook has 3",
                             [](O& o) {
                               o.advanced_parameters.codebook = {-1, 0, 1};
                             }},
                            {"adaptive_codebook_params.across_blocks", "one scale per channel",
                             [](O& o) { o.advanced_parameters.adaptive_codebook_params.across_blocks = true; }}});
}

TEST(CompressChecks, OptionsThatWouldChangeNothing) {
  using O = CompressWeightsOptions;
  expect_refused(int4_options(), {{"advanced_parameters.min_adjusted_group_size", "group_size_fallback_mode is error",
                                   [](O& o) { o.advanced_parameters.min_adjusted_group_size = 16; }},
                                  {"adaptive_codebook_params.num_elements", "no weight gets an adaptive codebook",
                                   [](O& o) { o.advanced_parameters.adaptive_codebook_params.num_elements = 8; }}});
  auto idle = int4_options();
  idle.all_layers = true;
  idle.sensitivity_metric = SensitivityMetric::kWeightQuantizationError;
  idle.backup_mode = BackupMode::kInt8Sym;
  Model model = small_lm();
  const auto& warnings = compress_weights(model, idle).report.warnings;
  for (const std::string option : {"sensitivity_metric has no effect", "backup_mode has no effect"}) {
    EXPECT_TRUE(std::any_of(warnings.begin(), warnings.end(), [&](const auto& text) {
      return text.rfind(option, 0) == 0;
    })) << option;
  }
}

TEST(CompressChecks, TheQuantizerHasTheOptionsOfPlacement) {
  OpenVINOQuantizerOptions placement;
  placement.weights_only.emplace();
  placement.weights_only->mode = Mode::kInt4Sym;
  placement.weights_only->group_size = 16;
  OpenVINOQuantizer quantizer(placement);
  CompressPt2eOptions fallback, codebook;
  fallback.advanced_parameters.group_size_fallback_mode = GroupSizeFallbackMode::kIgnore;
  codebook.advanced_parameters.codebook = {-1, 0, 1};
  Model model = small_lm();
  EXPECT_EQ(thrown_error([&] { compress_pt2e(model, quantizer, fallback); }).place(), "group_size_fallback_mode");
  EXPECT_EQ(thrown_error([&] { compress_pt2e(model, quantizer, codebook); }).place(), "codebook");
}

TEST(CompressChecks, AlgorithmsOfFourBitsTakeFloatFormatsToo) {
  for (const Mode mode : {Mode::kE2M1, Mode::kFp4, Mode::kMxFp4, Mode::kNvFp4}) {
    for (bool CompressWeightsOptions::*algorithm :
         {&CompressWeightsOptions::awq, &CompressWeightsOptions::scale_estimation, &CompressWeightsOptions::gptq}) {
      CompressWeightsOptions options;
      options.mode = mode;
      options.group_size = mode == Mode::kNvFp4 ? 16 : 32;
      options.dataset = token_data();
      options.*algorithm = true;
      Model model = small_lm();
      int64_t applied = 0;
      for (const auto& weight : compress_weights(model, options).report.weights) applied += !weight.algorithms.empty();
      EXPECT_GT(applied, 0) << static_cast<int>(mode);
    }
  }
}

TEST(CompressChecks, WhatAlgorithmsCannotTakeIsRecorded) {
  // The weight is on the left: its input comes transposed.
  const auto model_of = [] {
    at::manual_seed(6);
    return Model::from(testing::define(R"(
      def forward(self, x: Tensor) -> Tensor:
        y = torch.matmul(self.left, x.t()).t()
        y = torch.conv1d(y.unsqueeze(2), self.kernel, None).squeeze(2)
        return torch.linear(torch.linear(y, self.middle), self.head)
    )",
                                       {{"left", at::randn({32, 32})},
                                        {"kernel", at::randn({32, 32, 1})},
                                        {"middle", at::randn({32, 32})},
                                        {"head", at::randn({16, 32})}}));
  };
  auto options = int4_options();
  std::vector<at::Tensor> samples;
  for (int i = 0; i < 4; ++i) samples.push_back(at::randn({8, 32}));
  options.dataset = Dataset::from_tensors(samples);
  for (bool CompressWeightsOptions::*algorithm :
       {&CompressWeightsOptions::gptq, &CompressWeightsOptions::lora_correction}) {
    auto with = options;
    with.*algorithm = true;
    Model model = model_of();
    const auto result = compress_weights(model, with);
    for (const auto& weight : result.report.weights) {
      if (weight.name == "left") {
        ASSERT_EQ(weight.remarks.size(), 1U);
        EXPECT_NE(weight.remarks[0].find("its input is transposed"), std::string::npos) << weight.remarks[0];
        EXPECT_EQ(weight.format, "int4_sym");
      }
      EXPECT_EQ(weight.algorithms.empty(), weight.name != "middle") << weight.name;
    }
  }
}

TEST(CompressChecks, GroupSizesThatDivideNothingNameEveryWeight) {
  const Error error = error_of(int4_options(24));
  EXPECT_EQ(error.place(), "group_size");
  for (const char* name : {"gate", "up", "down"}) EXPECT_NE(error.message().find(name), std::string::npos) << name;
  auto with_target = int4_options(24);
  with_target.target_size = 0.2;
  EXPECT_EQ(error_of(with_target).message(), error.message());
}

TEST(CompressChecks, TheDriversNameEachOther) {
  Model model = small_lm();
  OpenVINOQuantizer activations;
  EXPECT_NE(thrown_error([&] { compress_pt2e(model, activations); }).advice().find("quantize_pt2e"), std::string::npos);
  OpenVINOQuantizerOptions what;
  what.weights_only.emplace();
  OpenVINOQuantizer weights(what);
  EXPECT_NE(thrown_error([&] { quantize_pt2e(model, weights, token_data()); }).advice().find("compress_pt2e"),
            std::string::npos);
  what.quantize_outputs = true;
  EXPECT_EQ(thrown_error([&] { OpenVINOQuantizer both(what); }).place(), "quantize_outputs");
}

TEST(CompressChecks, TargetsNeedIntegersToChooseFrom) {
  const auto refused = [](CompressWeightsMode mode, bool by_size) {
    OpenVINOQuantizerOptions what;
    what.weights_only.emplace();
    what.weights_only->mode = mode;
    OpenVINOQuantizer quantizer(what);
    CompressPt2eOptions options;
    (by_size ? options.target_size : options.target_bits_per_weight) = by_size ? 0.3 : 4;
    Model model = small_lm();
    return thrown_error([&] { compress_pt2e(model, quantizer, options); });
  };
  for (const Mode mode : {Mode::kInt8Asym, Mode::kCb4}) {
    EXPECT_EQ(refused(mode, true).place(), "target_size");
    EXPECT_EQ(refused(mode, false).place(), "target_bits_per_weight");
  }
}

TEST(CompressChecks, WeightsThatAreNotFiniteAreNamedAndNotTheData) {
  const auto error_with = [](const std::function<void(CompressWeightsOptions&)>& change) {
    Model model = small_lm();
    model.module().attr("up").toTensor()[3][4] = std::nan("");
    auto options = int4_options();
    change(options);
    return thrown_error([&] { compress_weights(model, options); });
  };
  const std::vector<std::function<void(CompressWeightsOptions&)>> runs{
      [](auto&) {},
      [](auto& o) { o.dry_run = true; },
      [](auto& o) { o.ratio = 0.5; },
      [](auto& o) { o.dataset = token_data(), o.gptq = true; },
      [](auto& o) { o.dataset = token_data(), o.awq = true; },
      [](auto& o) { o.dataset = token_data(), o.quality = CompressionQuality::kBest; },
  };
  for (size_t i = 0; i < runs.size(); ++i) {
    const Error error = error_with(runs[i]);
    EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel) << i << " " << error.what();
    EXPECT_EQ(error.place(), "up") << i;
  }
}

TEST(CompressChecks, EmptyDataAndModelsWithoutWeights) {
  auto options = int4_options();
  options.gptq = true;
  options.dataset = Dataset::from_tensors({});
  EXPECT_EQ(error_of(options).code(), ErrorCode::kDataset);
  Model model = Model::from(testing::define("def forward(self, x: Tensor) -> Tensor:\n  return x + 1\n"));
  EXPECT_EQ(thrown_error([&] { compress_weights(model); }).code(), ErrorCode::kUnsupportedModel);
  auto nothing_left = int4_options();
  nothing_left.ratio = 0;
  nothing_left.backup_mode = BackupMode::kNone;
  EXPECT_EQ(error_of(nothing_left).code(), ErrorCode::kUnsupportedModel);
}

}  // namespace
}  // namespace tsquant
