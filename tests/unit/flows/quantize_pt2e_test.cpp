#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <fstream>
#include <sstream>

#include "graph/node_lists.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing::quantize_pt2e_test {
namespace {

const char* kNet = R"(
def forward(self, x):
    y = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    z = torch.conv2d(y, self.w2, self.b2, [1, 1], [1, 1])
    return torch.linear(torch.flatten(torch.adaptive_avg_pool2d(torch.relu(z + y), [1, 1]), 1), self.w3, self.b3)
)";

torch::jit::Module net() {
  at::manual_seed(1);
  return define(kNet, {{"w1", at::randn({8, 3, 3, 3})},
                       {"b1", at::randn({8})},
                       {"w2", at::randn({8, 8, 3, 3}) * 0.3},
                       {"b2", at::randn({8})},
                       {"w3", at::randn({10, 8})},
                       {"b3", at::randn({10})}});
}

std::vector<at::Tensor> images(int64_t count = 8, int64_t batch = 1) {
  at::manual_seed(2);
  std::vector<at::Tensor> tensors;
  for (int64_t i = 0; i < count; ++i) tensors.push_back(at::randn({batch, 3, 12, 12}) * (1 + 0.2 * i));
  return tensors;
}

QuantizedModel quantized(const QuantizePt2eOptions& options = {}, const torch::jit::Module& module = net(),
                         const Dataset& data = Dataset::from_tensors(images())) {
  auto model = Model::from(module);
  OpenVINOQuantizer quantizer;
  return quantize_pt2e(model, quantizer, data, options);
}

QuantizePt2eOptions with_form(OutputForm form) {
  QuantizePt2eOptions options;
  options.form = form;
  return options;
}

at::Tensor output(const QuantizedModel& result, const at::Tensor& x) { return result.model.run({{x}, {}}).toTensor(); }

double relative_error(const at::Tensor& a, const at::Tensor& b) { return ((a - b).norm() / b.norm()).item<double>(); }

const QuantizerRecord& activation(const Report& report, size_t index) {
  for (const auto& record : report.quantizers) {
    if (record.kind == "activation" && index-- == 0) return record;
  }
  throw std::out_of_range("no such activation");
}

TEST(QuantizePt2e, EveryFormIsCloseToTheFloatModel) {
  const auto x = images()[3];
  const auto expected = net().forward({x}).toTensor();
  const auto reference = output(quantized(with_form(OutputForm::kReference)), x);
  EXPECT_LT(relative_error(reference, expected), 0.05);
  EXPECT_GT(relative_error(reference, expected), 0) << "nothing was quantized";
  EXPECT_TRUE(at::equal(output(quantized(with_form(OutputForm::kDecomposed)), x), reference));
  EXPECT_LT(relative_error(output(quantized(with_form(OutputForm::kFakeQuantize)), x), reference), 0.01);
  EXPECT_LT(relative_error(output(quantized(with_form(OutputForm::kLowered)), x), reference), 0.03);
}

TEST(QuantizePt2e, EveryEngineOfThisBuildRuns) {
  const auto x = images()[3];
  const auto reference = output(quantized(with_form(OutputForm::kReference)), x);
  for (const auto& engine : available_engines()) {
    auto options = with_form(OutputForm::kLowered);
    options.engine = engine;
    const auto result = quantized(options);
    EXPECT_EQ(result.report.engine, engine);
    c10::optional<EngineGuard> guard;
    if (engine != "tsquant") guard.emplace(engine);
    EXPECT_LT(relative_error(output(result, x), reference), 0.03) << engine;
  }
}

TEST(QuantizePt2e, FoldReplacesFloatWeights) {
  QuantizePt2eOptions keep = with_form(OutputForm::kReference);
  keep.fold_quantize = false;
  const auto folded = quantized(with_form(OutputForm::kReference)), kept = quantized(keep);
  EXPECT_TRUE(folded.model.module().attr("w1").toTensor().is_quantized());
  EXPECT_TRUE(kept.model.module().attr("w1").toTensor().is_floating_point());
  EXPECT_LT(folded.report.quantized_bytes, kept.report.quantized_bytes);
  EXPECT_TRUE(at::equal(output(folded, images()[0]), output(kept, images()[0])));
}

TEST(QuantizePt2e, CallersModuleIsNotChanged) {
  auto module = net();
  const auto weight = module.attr("w1").toTensor();
  const auto copy = weight.clone();
  const auto graph = module.get_method("forward").graph()->toString();
  quantized({}, module);
  EXPECT_TRUE(module.attr("w1").toTensor().is_same(weight));
  EXPECT_TRUE(at::equal(weight, copy));
  EXPECT_EQ(module.get_method("forward").graph()->toString(), graph);
}

TEST(QuantizePt2e, WithoutCopyTheGivenModelIsEdited) {
  OpenVINOQuantizer quantizer;
  QuantizePt2eOptions options = with_form(OutputForm::kReference);
  auto kept = Model::from(net()), edited = Model::from(net());
  quantize_pt2e(kept, quantizer, Dataset::from_tensors(images()), options);
  EXPECT_TRUE(nodes_of_kind(kept.graph()->block(), {"aten::dequantize"}).empty());
  options.do_copy = false;
  quantize_pt2e(edited, quantizer, Dataset::from_tensors(images()), options);
  EXPECT_FALSE(nodes_of_kind(edited.graph()->block(), {"aten::dequantize"}).empty());
}

TEST(QuantizePt2e, SubsetSizeLimitsTheSamples) {
  QuantizePt2eOptions few;
  few.subset_size = 2;
  const auto all = quantized(), two = quantized(few);
  EXPECT_EQ(all.report.samples, 8);
  EXPECT_EQ(two.report.samples, 2);
  EXPECT_GT(activation(all.report, 0).scale[0], activation(two.report, 0).scale[0]) << "later samples are larger";
}

TEST(QuantizePt2e, BatchwiseStatisticsAveragePerItem) {
  QuantizePt2eOptions item, batch;
  item.batchwise_statistics = true;
  batch.batchwise_statistics = false;
  // The default covers more of many items than of few batches; a mean tells the two apart.
  item.activations_range_estimator_params = RangeEstimatorParameters::mean_minmax();
  batch.activations_range_estimator_params = item.activations_range_estimator_params;
  const auto data = Dataset::from_tensors(images(4, 6));
  const double by_item = activation(quantized(item, net(), data).report, 0).scale[0];
  const double by_batch = activation(quantized(batch, net(), data).report, 0).scale[0];
  EXPECT_LT(by_item, by_batch);
  EXPECT_GT(by_item, 0.3 * by_batch);
}

TEST(QuantizePt2e, BiasCorrectionChangesBiasesUpToItsThreshold) {
  QuantizePt2eOptions with, without, strict;
  with.fast_bias_correction = true;
  with.bias_correction_params.threshold = 1e9;
  without.fast_bias_correction = c10::nullopt;
  strict.fast_bias_correction = true;
  strict.bias_correction_params.threshold = 0;
  const auto bias = net().attr("b2").toTensor();
  EXPECT_FALSE(at::equal(quantized(with).model.module().attr("b2").toTensor(), bias));
  EXPECT_TRUE(at::equal(quantized(without).model.module().attr("b2").toTensor(), bias));
  EXPECT_TRUE(at::equal(quantized(strict).model.module().attr("b2").toTensor(), bias));
}

TEST(QuantizePt2e, RangeEstimatorsChangeTheScales) {
  QuantizePt2eOptions widest;
  widest.activations_range_estimator_params = RangeEstimatorParameters::minmax();
  EXPECT_GT(activation(quantized(widest).report, 0).scale[0], activation(quantized().report, 0).scale[0]);
  QuantizePt2eOptions clipped;
  clipped.weights_range_estimator_params = RangeEstimatorParameters::mean_quantile();
  clipped.weights_range_estimator_params.min.quantile_outlier_prob = 0.1;
  clipped.weights_range_estimator_params.max.quantile_outlier_prob = 0.1;
  const auto weight_scale = [](const Report& report) {
    for (const auto& record : report.quantizers) {
      if (record.kind == "weight") return record.scale[0];
    }
    return 0.0;
  };
  const double all = weight_scale(quantized().report), without_tails = weight_scale(quantized(clipped).report);
  EXPECT_LT(without_tails, all);
  EXPECT_GT(without_tails, 0.3 * all) << "80 % of normal weights lie within 1.28 deviations, all within about 3";
}

TEST(QuantizePt2e, SkippedPassIsLeftOut) {
  auto module = define(
      "def forward(self, x):\n"
      "    y = torch.conv2d(x, self.w)\n"
      "    return torch.batch_norm(y, None, None, self.m, self.v, False, 0.1, 1e-5, False)\n",
      {{"w", at::randn({4, 3, 3, 3})}, {"m", at::randn({4})}, {"v", at::rand({4}) + 0.5}});
  QuantizePt2eOptions options;
  const auto count = [](const QuantizedModel& result) {
    return nodes_of_kind(result.model.graph()->block(), {"aten::batch_norm"}).size();
  };
  EXPECT_EQ(count(quantized(options, module)), 0u);
  options.skip_passes = {"fold_batch_norm"};
  EXPECT_EQ(count(quantized(options, module)), 1u);
}

TEST(QuantizePt2e, BothBranchesAreQuantizedAndKeepTheirBehaviour) {
  auto module =
      define(R"(
def forward(self, x):
    if bool(x.sum() > 0):
        y = torch.relu(torch.conv2d(x, self.w1, None, [1, 1], [1, 1]))
    else:
        y = torch.conv2d(x, self.w2, None, [1, 1], [1, 1])
    i = 0
    while i < 2:
        y = torch.conv2d(y, self.w3, None, [1, 1], [1, 1])
        i += 1
    return y
)",
             {{"w1", at::randn({8, 3, 3, 3})}, {"w2", at::randn({8, 3, 3, 3})}, {"w3", at::randn({8, 8, 3, 3}) * 0.1}});
  std::vector<at::Tensor> data;
  for (int i = 0; i < 6; ++i) data.push_back(at::rand({1, 3, 8, 8}) * (i % 2 ? 1 : -1));
  const auto result = quantized(with_form(OutputForm::kReference), module, Dataset::from_tensors(data));
  for (const auto& name : {"w1", "w2", "w3"}) EXPECT_TRUE(result.model.module().attr(name).toTensor().is_quantized());
  for (const auto& x : data) {
    const auto expected = module.forward({x}).toTensor();
    EXPECT_LT(relative_error(output(result, x), expected), 0.05);
    EXPECT_GT(relative_error(output(result, x), expected), 0);
  }
}

TEST(QuantizePt2e, TuplesDictionariesAndKeywordsAreSamples) {
  auto module = define(R"(
def forward(self, pair: Tuple[Tensor, Tensor], extra: Dict[str, Tensor], scale: float = 1.0):
    return {"y": torch.linear(pair[0] + pair[1], self.w) * scale + extra["z"]}
)",
                       {{"w", at::randn({4, 6})}});
  const auto make = [](int64_t index) {
    at::manual_seed(index);
    c10::Dict<std::string, at::Tensor> extra;
    extra.insert("z", at::randn({2, 4}));
    return Sample{{c10::ivalue::Tuple::create({at::randn({2, 6}), at::randn({2, 6})})},
                  {{"extra", extra}, {"scale", 2.0}}};
  };
  auto options = with_form(OutputForm::kReference);
  options.activations_range_estimator_params = RangeEstimatorParameters::minmax();
  const auto result = quantized(options, module, Dataset(4, make));
  EXPECT_GE(result.report.quantized_count(), 1);
  const auto sample = make(0);
  const auto expected = module.get_method("forward")(sample.args, sample.kwargs).toGenericDict().at("y").toTensor();
  EXPECT_LT(relative_error(result.model.run(sample).toGenericDict().at("y").toTensor(), expected), 0.05);
}

/// The bytes of files are compared between processes (Program.RunningTwiceGivesTheSameResult, the kit's determinism
/// test): within one, LibTorch gives every copy of a class another name.
TEST(QuantizePt2e, SameInputGivesTheSameModelForAnyThreadCount) {
  const int threads = at::get_num_threads();
  std::vector<QuantizedModel> results;
  for (int count : {1, 1, 2}) {
    at::set_num_threads(count);
    results.push_back(quantized());
    results.back().report.phases.clear();  // times differ
    results.back().report.rewrites.clear();
  }
  at::set_num_threads(threads);
  for (size_t other : {1, 2}) {
    EXPECT_EQ(results[other].report.to_json(), results[0].report.to_json());
    EXPECT_EQ(results[other].model.graph()->toString(false).size(), results[0].model.graph()->toString(false).size());
    const auto expected = results[0].model.module().named_attributes();
    size_t compared = 0;
    for (const auto& attribute : results[other].model.module().named_attributes()) {
      if (!attribute.value.isTensor()) continue;
      for (const auto& same : expected) {
        if (same.name != attribute.name) continue;
        EXPECT_TRUE(at::equal(same.value.toTensor(), attribute.value.toTensor())) << attribute.name;
        ++compared;
      }
    }
    EXPECT_GE(compared, 6u);
  }
}

TEST(QuantizePt2e, SavedModelRunsInPlainLibTorchAndTellsItsForm) {
  const std::string path = temp_dir() + "/model_int8.pt";
  const auto result = quantized(with_form(OutputForm::kReference));
  result.save(path);
  torch::jit::ExtraFilesMap extra{{"tsquant_form", ""}, {"tsquant_report.json", ""}};
  auto loaded = torch::jit::load(path, c10::nullopt, extra);
  EXPECT_TRUE(at::equal(loaded.forward({images()[0]}).toTensor(), output(result, images()[0])));
  EXPECT_EQ(extra["tsquant_form"], "reference");
  EXPECT_EQ(Report::from_json(extra["tsquant_report.json"]).nodes.size(), result.report.nodes.size());
}

TEST(QuantizePt2e, OperatorsWithSeveralResultsAreQuantizedBehindEachResult) {
  const auto module = define(R"(
def forward(self, x):
    a, b = torch.chunk(torch.conv2d(x, self.w), 2, 1)
    value, index = torch.max(a * 2.0 + b, 1, True)
    return torch.linear(torch.flatten(value, 1), self.l), index
)",
                             {{"w", at::randn({8, 3, 3, 3})}, {"l", at::randn({4, 100})}});
  const auto result = quantized(with_form(OutputForm::kReference), module);
  const auto x = images()[3];
  const auto actual = result.model.run({{x}, {}}).toTuple()->elements()[0].toTensor();
  auto copy = module;
  const auto expected = copy.forward({x}).toTuple()->elements()[0].toTensor();
  EXPECT_LT(relative_error(actual, expected), 0.1);
  EXPECT_GT(relative_error(actual, expected), 0);
}

TEST(QuantizePt2e, ReportSaysWhatHappenedToEveryOperator) {
  OpenVINOQuantizerOptions placement;
  placement.ignored_scope.types = {"linear"};
  OpenVINOQuantizer quantizer(placement);
  auto model = Model::from(net());
  const auto report = quantize_pt2e(model, quantizer, Dataset::from_tensors(images())).report;
  std::map<std::string, std::string> codes;
  for (const auto& node : report.nodes) codes.emplace(node.name, node.code);
  EXPECT_EQ(codes.at("/conv2d/0"), "quantized");
  EXPECT_EQ(codes.at("/relu/0"), "fused");
  EXPECT_EQ(codes.at("/linear/0"), "ignored");
  EXPECT_EQ(codes.size(), report.nodes.size());
}

TEST(QuantizePt2e, BadArgumentsAreNamed) {
  QuantizePt2eOptions none;
  none.subset_size = 0;
  auto error = thrown_error([&] { quantized(none); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error.place(), "subset_size");

  error = thrown_error([] { quantized({}, net(), Dataset::from_tensors({})); });
  EXPECT_EQ(error.code(), ErrorCode::kDataset);

  QuantizePt2eOptions engine = with_form(OutputForm::kLowered);
  engine.engine = "warp";
  error = thrown_error([&] { quantized(engine); });
  EXPECT_EQ(error.code(), ErrorCode::kBackendUnavailable);
  EXPECT_NE(error.advice().find("tsquant"), std::string::npos);

  engine = with_form(OutputForm::kReference);
  engine.engine = "tsquant";
  EXPECT_EQ(thrown_error([&] { quantized(engine); }).place(), "engine");

  QuantizePt2eOptions passes;
  passes.skip_passes = {"no_such_pass"};
  EXPECT_EQ(thrown_error([&] { quantized(passes); }).code(), ErrorCode::kInvalidArgument);

  error = thrown_error([] { quantized({}, net(), Dataset::from_tensors({at::randn({1, 5, 12, 12})})); });
  EXPECT_EQ(error.code(), ErrorCode::kDataset);
  EXPECT_NE(error.message().find("channels"), std::string::npos) << error.what();

  auto bad = images();
  bad[2][0][0][0][0] = std::nan("");
  EXPECT_EQ(thrown_error([&] { quantized({}, net(), Dataset::from_tensors(bad)); }).code(), ErrorCode::kCalibration);
}

TEST(QuantizePt2e, NothingToQuantizeIsAnErrorUnlessAllowed) {
  auto module = define("def forward(self, x):\n    return torch.relu(x)\n");
  const auto error = thrown_error([&] { quantized({}, module); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel);
  EXPECT_NE(error.message().find("relu"), std::string::npos);
  QuantizePt2eOptions options;
  options.allow_empty = true;
  const auto result = quantized(options, module);
  EXPECT_EQ(result.report.quantized_count(), 0);
  EXPECT_TRUE(at::equal(output(result, images()[0]), at::relu(images()[0])));
}

TEST(QuantizePt2e, ProgressCountsAndCancels) {
  QuantizePt2eOptions options;
  std::vector<int64_t> seen;
  options.progress = [&](const std::string&, int64_t done, int64_t total) {
    EXPECT_EQ(total, 8);
    seen.push_back(done);
    return true;
  };
  quantized(options);
  EXPECT_EQ(seen.back(), 8);
  options.progress = [](const std::string&, int64_t done, int64_t) { return done < 3; };
  EXPECT_EQ(thrown_error([&] { quantized(options); }).code(), ErrorCode::kCancelled);
}

TEST(QuantizePt2e, TrainingModeIsSwitchedWithAWarningOrRefused) {
  auto module = net();
  module.train();
  auto model = Model::from(module);
  ASSERT_EQ(model.warnings().size(), 1u);
  CaptureOptions refuse;
  refuse.training_mode = TrainingMode::kRefuse;
  EXPECT_EQ(thrown_error([&] { Model::from(module, refuse); }).code(), ErrorCode::kUnsupportedModel);
  EXPECT_TRUE(module.is_training()) << "the caller's module keeps its mode";
}

}  // namespace
}  // namespace tsquant::testing::quantize_pt2e_test
