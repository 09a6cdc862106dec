#include <gtest/gtest.h>
#include <torch/csrc/jit/passes/freeze_module.h>

#include "graph/node_lists.h"
#include "lowering/compressed/fuse_decompression.h"
#include "lowering/lowering.h"
#include "options/words.h"
#include "small_lm.h"
#include "support/thrown_error.h"

namespace tsquant {
namespace {

using Mode = CompressWeightsMode;
using testing::distance;
using testing::int4_options;
using testing::ir_of;
using testing::small_lm;
using testing::token_data;

int64_t count_kind(const Model& model, const std::string& kind) {
  int64_t count = 0;
  for (const auto* node : all_nodes(model.graph()->block())) count += node->kind().toQualString() == kind;
  return count;
}

const WeightRecord& record_of(const CompressedModel& compressed, const std::string& name) {
  for (const auto& record : compressed.report.weights) {
    if (record.name == name) return record;
  }
  throw std::runtime_error("no record of " + name);
}

CompressedModel compress(const CompressWeightsOptions& options) {
  Model model = small_lm();
  return compress_weights(model, options);
}

TEST(CompressWeights, EveryModeIsSmallerAndComputesNearlyTheSame) {
  const Model original = small_lm();
  for (const auto& [word, mode] : words<Mode>()) {
    CompressWeightsOptions options;
    options.mode = mode;
    options.all_layers = word.rfind("int8", 0) != 0;
    if (options.all_layers && !(mode == Mode::kMxFp4 || mode == Mode::kMxFp8E4M3 || mode == Mode::kNvFp4)) {
      options.group_size = 16;
    }
    if (mode == Mode::kCodebook) options.advanced_parameters.codebook = {-3, -2, -1, -0.5, 0, 0.5, 1, 2, 3};
    if (mode == Mode::kAdaptiveCodebook) options.dataset = token_data();
    const auto result = compress(options);
    const bool bytes = word.find('8') != std::string::npos;
    EXPECT_LT(result.report.quantized_bytes, result.report.float_bytes / (bytes ? 2 : 3)) << word;
    EXPECT_LT(distance(original, result.model), word.rfind("int2", 0) == 0 ? 0.9 : 0.35) << word;
    EXPECT_GT(distance(original, result.model), 0) << word;
  }
}

TEST(CompressWeights, LoweredFormComputesWhatTheReferenceDoesAndTurnsBack) {
  for (const Mode mode : {Mode::kInt8Asym, Mode::kInt8Sym, Mode::kInt4Sym, Mode::kInt4Asym, Mode::kInt3Sym,
                          Mode::kInt2Asym, Mode::kNf4, Mode::kFp8E4M3}) {
    CompressWeightsOptions options;
    options.mode = mode;
    if (mode != Mode::kInt8Asym && mode != Mode::kInt8Sym) options.group_size = 16;
    const auto reference = compress(options);
    options.form = OutputForm::kLowered;
    const auto lowered = compress(options);
    EXPECT_LT(distance(reference.model, lowered.model), 2e-3);
    EXPECT_EQ(count_kind(lowered.model, "tsquant::linear_compressed"), 4);
    EXPECT_EQ(count_kind(lowered.model, "tsquant::embedding_compressed"), 1);
    Model back = lowered.model.clone();
    EXPECT_TRUE(unfuse_decompression(back));
    EXPECT_EQ(count_kind(back, "tsquant::linear_compressed"), 0);
    EXPECT_EQ(distance(reference.model, back), 0);
    std::map<std::string, std::string> kernels;
    EXPECT_TRUE(fuse_decompression(back, {}, kernels));
    EXPECT_EQ(distance(lowered.model, back), 0);
  }
}

TEST(CompressWeights, FreezingKeepsTheLoweredFormPacked) {
  auto options = int4_options();
  options.form = OutputForm::kLowered;
  const auto lowered = compress(options);
  auto module = lowered.model.finished_module();
  module.eval();
  const auto frozen = torch::jit::freeze_module(module);
  const Model model = Model::from(frozen);
  EXPECT_EQ(count_kind(model, "tsquant::linear_compressed"), 4);
  EXPECT_LE(stored_bytes(model), lowered.report.quantized_bytes);
  EXPECT_EQ(distance(lowered.model, model), 0);
}

/// Layers of every kind but those of small_lm, with weights of 16 KB each.
Model layers_of_all_kinds() {
  at::manual_seed(4);
  return Model::from(testing::define(R"(
    def forward(self, x: Tensor) -> Tensor:
      y = torch.addmm(self.b, x.view([-1, self.conv1d.size(0)]), self.conv1d).view([-1, 16, self.conv1d.size(1)])
      y, _, _ = torch.lstm(y, [torch.zeros([1, x.size(0), 64]), torch.zeros([1, x.size(0), 64])], [self.ih, self.hh],
                           False, 1, 0., False, False, True)
      y = torch.bmm(y, self.products)
      y = torch.baddbmm(y, y, self.products)
      return torch.conv1d(torch.conv_transpose1d(y.transpose(1, 2), self.up), self.down)
  )",
                                     {{"conv1d", at::randn({64, 64}) * 0.1},
                                      {"b", at::randn({64})},
                                      {"ih", at::randn({256, 64}) * 0.1},
                                      {"hh", at::randn({256, 64}) * 0.1},
                                      {"products", at::randn({2, 64, 64}) * 0.1},
                                      {"up", at::randn({64, 64, 1}) * 0.1},
                                      {"down", at::randn({64, 64, 1}) * 0.1}}));
}

TEST(CompressWeights, LayersOfAllKindsStayPackedAfterFreezing) {
  const Sample sample{{at::randn({2, 16, 64})}, {}};
  for (const Mode mode : {Mode::kInt8Sym, Mode::kInt4Asym, Mode::kNf4}) {
    CompressWeightsOptions options;
    options.mode = mode;
    options.all_layers = mode != Mode::kInt8Sym;
    if (options.all_layers) options.group_size = 16;
    Model model = layers_of_all_kinds();
    const auto reference = compress_weights(model, options);
    options.form = OutputForm::kLowered;
    const auto lowered = compress_weights(model, options);
    for (const auto& weight : lowered.report.weights) {
      EXPECT_EQ(weight.kernel.rfind("tsquant::", 0), 0U) << weight.name << " " << weight.kernel;
    }
    auto module = lowered.model.finished_module();
    module.eval();
    const Model frozen = Model::from(torch::jit::freeze_module(module));
    EXPECT_LE(stored_bytes(frozen), lowered.report.quantized_bytes);
    EXPECT_LT(lowered.report.quantized_bytes, 0.27 * lowered.report.float_bytes);
    const at::Tensor expected = lowered.model.run(sample).toTensor();
    EXPECT_TRUE(at::equal(frozen.run(sample).toTensor(), expected));
    const at::Tensor plain = reference.model.run(sample).toTensor();
    EXPECT_LT((expected - plain).norm().item<double>(), 2e-3 * plain.norm().item<double>());

    Model there = lowered.model.clone();
    Model back = convert_form(there, OutputForm::kReference);
    EXPECT_TRUE(at::equal(back.run(sample).toTensor(), plain));
    EXPECT_TRUE(at::equal(convert_form(back, OutputForm::kLowered).run(sample).toTensor(), expected));
  }
}

TEST(CompressWeights, DynamicActivationsAreCloseAndTurnIntoFloatOnes) {
  for (const Mode mode : {Mode::kInt8Asym, Mode::kInt4Sym, Mode::kInt4Asym, Mode::kInt3Sym, Mode::kInt2Asym}) {
    CompressWeightsOptions options;
    options.mode = mode;
    options.form = OutputForm::kLowered;
    if (mode != Mode::kInt8Asym) options.group_size = 16;
    const auto floats = compress(options);
    options.dynamic_activations = true;
    const auto dynamic = compress(options);
    EXPECT_EQ(count_kind(dynamic.model, "tsquant::linear_compressed_dynamic"), 4);
    EXPECT_EQ(count_kind(dynamic.model, "tsquant::linear_compressed"), 0);
    EXPECT_EQ(record_of(dynamic, "gate").kernel, "tsquant::linear_compressed_dynamic");
    EXPECT_GT(distance(floats.model, dynamic.model), 0);
    EXPECT_LT(distance(floats.model, dynamic.model), 0.02);
    auto module = dynamic.model.finished_module();
    module.eval();
    const Model frozen = Model::from(torch::jit::freeze_module(module));
    EXPECT_EQ(count_kind(frozen, "tsquant::linear_compressed_dynamic"), 4);
    EXPECT_EQ(distance(dynamic.model, frozen), 0);
    Model back = dynamic.model.clone();
    EXPECT_TRUE(unfuse_decompression(back));
    EXPECT_FALSE(has_dynamic_activations(back));
    std::map<std::string, std::string> kernels;
    EXPECT_TRUE(fuse_decompression(back, {}, kernels));
    EXPECT_EQ(distance(floats.model, back), 0);
    Model same = dynamic.model.clone();
    convert_form(same, OutputForm::kLowered, /*do_copy=*/false);
    EXPECT_EQ(distance(dynamic.model, same), 0);
  }
}

TEST(CompressWeights, FormatsWithTablesKeepFloatActivationsAndSaySo) {
  CompressWeightsOptions options;
  options.mode = Mode::kNf4;
  options.group_size = 16;
  options.form = OutputForm::kLowered;
  const auto floats = compress(options);
  options.dynamic_activations = true;
  const auto result = compress(options);
  EXPECT_EQ(record_of(result, "gate").kernel,
            "tsquant::linear_compressed: float activations, nf4 is no integer format");
  EXPECT_EQ(count_kind(floats.model, "tsquant::linear_compressed"), 4);
  EXPECT_GT(count_kind(result.model, "tsquant::linear_compressed"), 0);
}

TEST(CompressWeights, DynamicActivationsNeedPackedCodes) {
  auto options = int4_options();
  options.dynamic_activations = true;
  const auto said = [&] { return testing::thrown_error([&] { compress(options); }); };
  EXPECT_EQ(said().place(), "dynamic_activations");
  EXPECT_NE(std::string(said().what()).find("the form is reference"), std::string::npos) << said().what();
  options.form = OutputForm::kLowered;
  options.compression_format = CompressionFormat::kFQ;
  EXPECT_NE(std::string(said().what()).find("the compression format is fake_quantize"), std::string::npos);
}

TEST(CompressWeights, BothDriversWriteTheSame) {
  const auto options = int4_options();
  Model model = small_lm();
  OpenVINOQuantizerOptions what;
  what.weights_only.emplace();
  what.weights_only->mode = options.mode;
  what.weights_only->group_size = options.group_size;
  OpenVINOQuantizer quantizer(what);
  // LibTorch numbers the names of classes within a process, so the files are compared by what is in them.
  const auto a = compress_pt2e(model, quantizer), b = compress_weights(model, options);
  EXPECT_EQ(a.report.to_json(/*per_channel=*/false), b.report.to_json(/*per_channel=*/false));
  EXPECT_EQ(ir_of(a.model), ir_of(b.model));
  EXPECT_EQ(distance(a.model, b.model), 0);
  EXPECT_EQ(distance(model, small_lm()), 0) << "the caller's model was changed";
}

TEST(CompressWeights, DataAwareAlgorithmsLowerTheErrorOfLayers) {
  auto options = int4_options();
  options.dataset = token_data();
  for (bool CompressWeightsOptions::*algorithm :
       {&CompressWeightsOptions::scale_estimation, &CompressWeightsOptions::gptq,
        &CompressWeightsOptions::lora_correction}) {
    auto with = options;
    with.*algorithm = true;
    const auto result = compress(with);
    for (const char* name : {"gate", "up", "down"}) {
      const auto& record = record_of(result, name);
      ASSERT_FALSE(record.algorithms.empty()) << name;
      EXPECT_LT(record.error_after, record.error_before) << name << " " << record.algorithms.front();
    }
  }
}

/// Runs layer by layer read the data themselves.
TEST(CompressWeights, TheReportSaysHowManySamplesWereUsed) {
  const auto report_of = [](int64_t subset_size, CompressionQuality quality) {
    auto options = int4_options();
    options.dataset = token_data();
    options.subset_size = subset_size;
    options.gptq = quality != CompressionQuality::kBest;
    options.quality = quality;
    return compress(options).report;
  };
  for (const auto quality : {CompressionQuality::kBest, CompressWeightsOptions().quality}) {
    EXPECT_EQ(report_of(8, quality).samples, 8);
    EXPECT_TRUE(report_of(8, quality).warnings.empty());
    const auto few = report_of(20, quality);
    EXPECT_EQ(few.samples, 12);
    ASSERT_EQ(few.warnings.size(), 1U);
    EXPECT_NE(few.warnings[0].find("20 samples were asked for, the data set has 12"), std::string::npos);
  }
}

TEST(CompressWeights, TheBestQualityBeatsNncfsGptq) {
  for (const Mode mode : {Mode::kInt4Sym, Mode::kInt2Asym}) {
    auto options = int4_options();
    options.mode = mode;
    options.dataset = token_data();
    auto best = options;
    options.gptq = true;
    best.quality = CompressionQuality::kBest;
    const auto theirs = compress(options), ours = compress(best);
    double sum = 0, their_sum = 0;
    for (const char* name : {"gate", "up", "down"}) {
      sum += record_of(ours, name).error_after;
      their_sum += record_of(theirs, name).error_after;
    }
    EXPECT_LT(sum, their_sum);
    const auto& algorithms = record_of(ours, "down").algorithms;
    EXPECT_NE(std::find(algorithms.begin(), algorithms.end(), "mean compensation"), algorithms.end());
    EXPECT_GT(record_of(ours, "down").damping, 0);
  }
}

TEST(CompressWeights, AdaptersOfTheBestQualityAreTheBestOfTheirRank) {
  auto options = int4_options();
  options.mode = Mode::kInt2Asym;
  options.quality = CompressionQuality::kBest;
  options.dataset = token_data();
  const auto without = compress(options);
  options.lora_correction = true;
  options.advanced_parameters.lora_correction_params.adapter_rank = 4;
  const auto with = compress(options);
  for (const char* name : {"gate", "up", "down"}) {
    EXPECT_LT(record_of(with, name).error_after, 0.95 * record_of(without, name).error_after) << name;
    EXPECT_EQ(record_of(with, name).algorithms.back(), "lora correction");
  }
  EXPECT_LT(distance(small_lm(), with.model), distance(small_lm(), without.model));
  options.advanced_parameters.lora_correction_params.num_iterations = 5;
  EXPECT_NE(testing::thrown_error([&] { compress(options); }).message().find("the quality is best"), std::string::npos);
}

TEST(CompressWeights, AwqKeepsWhatTheModelComputesAndSaysWhatItLeftOut) {
  auto options = int4_options();
  options.awq = true;
  const auto data_free = compress(options);
  options.dataset = token_data();
  const auto with_data = compress(options);
  EXPECT_EQ(record_of(data_free, "down").algorithms, std::vector<std::string>{"awq (data-free)"});
  EXPECT_EQ(record_of(with_data, "down").algorithms, std::vector<std::string>{"awq"});
  EXPECT_FALSE(record_of(with_data, "gate").remarks.empty());
  EXPECT_LT(distance(small_lm(), with_data.model), 0.3);
}

TEST(CompressWeights, TargetsAreMetFromBelow) {
  for (const double target : {0.15, 0.2, 0.25}) {
    auto options = int4_options();
    options.all_layers = true;
    options.target_size = target;
    const auto result = compress(options);
    const double share =
        static_cast<double>(result.report.quantized_bytes) / static_cast<double>(result.report.float_bytes);
    EXPECT_LE(share, target * 1.01);
  }
  auto options = int4_options();
  options.all_layers = true;
  options.target_bits_per_weight = 4.5;
  const auto result = compress(options);
  double bits = 0, values = 0;
  for (const auto& record : result.report.weights) {
    bits += 8.0 * static_cast<double>(record.compressed_bytes);
    values += static_cast<double>(record.float_bytes) / 4;
  }
  EXPECT_LE(bits / values, 4.5 * 1.01);
  EXPECT_GT(bits / values, 4.0);
  options.target_bits_per_weight = 1;
  EXPECT_NE(testing::thrown_error([&] { compress(options); }).message().find("out of reach"), std::string::npos);
}

TEST(CompressWeights, NamesOfWeightsAndOperatorsMayBeIgnored) {
  auto options = int4_options();
  options.ignored_scope.names = {"up"};
  const auto result = compress(options);
  EXPECT_EQ(result.report.weights.size(), 4U);
  options.ignored_scope.names = {"upp"};
  EXPECT_NE(testing::thrown_error([&] { compress(options); }).message().find("matches no node"), std::string::npos);
}

TEST(CompressWeights, ADryRunTellsBytesAndLeavesTheModel) {
  auto options = int4_options();
  const auto real = compress(options);
  options.dry_run = true;
  const auto plan = compress(options);
  EXPECT_EQ(distance(small_lm(), plan.model), 0);
  ASSERT_EQ(plan.report.weights.size(), real.report.weights.size());
  for (size_t i = 0; i < plan.report.weights.size(); ++i) {
    EXPECT_EQ(plan.report.weights[i].format, real.report.weights[i].format);
    EXPECT_EQ(plan.report.weights[i].compressed_bytes, real.report.weights[i].compressed_bytes);
  }
  EXPECT_EQ(plan.report.quantized_bytes, real.report.quantized_bytes);
}

TEST(CompressWeights, StatisticsAreReadFromTheirFolder) {
  auto options = int4_options();
  options.dataset = token_data();
  options.scale_estimation = true;
  const auto expected = compress(options);
  options.advanced_parameters.statistics_path = testing::temp_dir() + "/statistics";
  const auto written = compress(options), read = compress(options);
  EXPECT_EQ(distance(expected.model, written.model), 0);
  EXPECT_EQ(distance(expected.model, read.model), 0);
}

// The fused encoder layers of LibTorch ask weights for their device.
TEST(CompressWeights, AFloatWeightThatStaysInTheFileIsSaid) {
  const auto warnings_of = [](const std::string& more) {
    const std::string source = "def forward(self, x):\n    return torch.linear(x, self.w)" + more + "\n";
    Model model = Model::from(testing::define(source, {{"w", at::randn({32, 32})}}));
    return compress_weights(model, CompressWeightsOptions()).report.warnings;
  };
  EXPECT_TRUE(warnings_of("").empty());
  const auto warnings = warnings_of(" + torch.zeros([1], device=self.w.device)");
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("4096 bytes"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("prim::device"), std::string::npos) << warnings[0];
}

TEST(CompressWeights, TheReportSurvivesTheFile) {
  const std::string path = testing::temp_dir() + "/model.pt";
  const auto result = compress(int4_options());
  result.save(path);
  const Model loaded = Model::load(path);
  const Report report = Report::from_json(loaded.extra_files().at("tsquant_report.json"));
  ASSERT_EQ(report.weights.size(), result.report.weights.size());
  EXPECT_EQ(report.weights[1].format, result.report.weights[1].format);
  EXPECT_NE(report.summary().find("int4_sym, group size 16"), std::string::npos);
  EXPECT_EQ(distance(result.model, loaded), 0);
}

}  // namespace
}  // namespace tsquant
