#include <gtest/gtest.h>
#include <torch/optim/adam.h>
#include <torch/script.h>

#include "lowering/trainable/trainable_weight.h"
#include "small_lm.h"
#include "support/files.h"
#include "support/thrown_error.h"
#include "tsquant/strip.h"

namespace tsquant {
namespace {

using Mode = CompressWeightsMode;
using testing::int4_options;
using testing::ir_of;
using testing::small_lm;
using testing::thrown_error;
using testing::token_data;

CompressWeightsOptions trainable_options(Mode mode, CompressionFormat format, int64_t group_size = 16) {
  auto options = int4_options(group_size);
  options.mode = mode;
  options.compression_format = format;
  options.all_layers = true;
  if (format == CompressionFormat::kFQLora) options.advanced_parameters.lora_adapter_rank = 4;
  return options;
}

CompressedModel compressed_lm(const CompressWeightsOptions& options) {
  Model model = small_lm();
  return compress_weights(model, options);
}

at::Tensor result_of(const Model& model) { return model.run(token_data(1).get(0)).toTensor(); }

double gap_between(const Model& a, const Model& b) {
  const at::Tensor x = result_of(a), y = result_of(b);
  return ((x - y).norm() / x.norm()).item<double>();
}

std::map<std::string, at::Tensor> trained_tensors(const torch::jit::Module& module) {
  std::map<std::string, at::Tensor> found;
  for (const auto& parameter : module.named_parameters()) {
    if (parameter.value.requires_grad()) found[parameter.name] = parameter.value;
  }
  return found;
}

/// A few steps towards the results of the float model.
torch::jit::Module train(torch::jit::Module module, const torch::jit::Module& teacher, double* first, double* last) {
  std::vector<at::Tensor> parameters;
  for (const auto& [name, tensor] : trained_tensors(module)) parameters.push_back(tensor);
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(4e-3));
  const Dataset data = token_data();
  for (int step = 0; step < 30; ++step) {
    at::Tensor loss;
    for (int64_t i = 0; i < 2; ++i) {
      const auto ids = data.get(i).args;
      auto copy = ids;
      at::Tensor target;
      {
        const at::NoGradGuard guard;
        torch::jit::Module run = teacher;
        target = run.forward(copy).toTensor();
      }
      const at::Tensor error = (module.forward(ids).toTensor() - target).square().mean();
      loss = loss.defined() ? loss + error : error;
    }
    if (step == 0) *first = loss.item<double>();
    *last = loss.item<double>();
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  }
  return module;
}

TEST(TrainableWeights, TheQuantizersGiveTheSameValuesAsCodes) {
  for (const Mode mode :
       {Mode::kInt8Asym, Mode::kInt8Sym, Mode::kInt4Sym, Mode::kInt4Asym, Mode::kInt3Sym, Mode::kInt2Asym}) {
    const bool bytes = mode == Mode::kInt8Asym || mode == Mode::kInt8Sym;
    for (const int64_t group_size : {int64_t{-1}, int64_t{16}}) {
      if (bytes && group_size > 0) continue;
      auto options = trainable_options(mode, CompressionFormat::kFQ, group_size);
      if (bytes) options.all_layers = false, options.group_size = c10::nullopt;
      const auto trainable = compressed_lm(options);
      options.compression_format = CompressionFormat::kDQ;
      const auto codes = compressed_lm(options);
      // The scales of codes are float16.
      EXPECT_LT(gap_between(codes.model, trainable.model), 1e-3) << static_cast<int>(mode) << " " << group_size;
      EXPECT_EQ(trainable.report.weights.size(), codes.report.weights.size());
    }
  }
}

TEST(TrainableWeights, OnlyWhatIsTrainedRequiresGradients) {
  const Model original = small_lm();
  Model model = original.clone();
  const auto full = compress_weights(model, trainable_options(Mode::kInt4Asym, CompressionFormat::kFQ));
  std::set<std::string> names;
  for (const auto& [name, tensor] : trained_tensors(full.model.module())) names.insert(name);
  std::set<std::string> expected;
  for (const char* weight : {"gate", "up", "down", "head", "table"}) {
    for (const char* suffix : {"", "_low", "_range"}) expected.insert(std::string(weight) + suffix);
  }
  EXPECT_EQ(names, expected);
  names.clear();
  const auto adapted = compressed_lm(trainable_options(Mode::kInt4Sym, CompressionFormat::kFQLora));
  for (const auto& [name, tensor] : trained_tensors(adapted.model.module())) names.insert(name);
  EXPECT_EQ(names.count("gate"), 0U);
  for (const char* suffix : {"_limit", "_lora_A", "_lora_B"}) EXPECT_EQ(names.count(std::string("gate") + suffix), 1U);
  EXPECT_TRUE(trained_tensors(original.module()).empty()) << "the caller's model was touched";
}

TEST(TrainableWeights, TrainingSavingAndStrippingKeepTheResults) {
  const Model original = small_lm();
  for (const auto format : {CompressionFormat::kFQ, CompressionFormat::kFQLora}) {
    for (const Mode mode : {Mode::kInt2Asym, Mode::kInt2Sym}) {
      const auto compressed = compressed_lm(trainable_options(mode, format));
      const std::string folder = testing::temp_dir() + "/";
      compressed.save(folder + "start.pt");
      double first = 0, last = 0;
      auto module = train(torch::jit::load(folder + "start.pt"), original.finished_module(), &first, &last);
      EXPECT_LT(last, 0.9 * first) << static_cast<int>(mode);
      module.save(folder + "trained.pt");

      Model trained = Model::load(folder + "trained.pt");
      for (const auto strip_format : {StripFormat::kDq, StripFormat::kInPlace, StripFormat::kNative}) {
        const Model stripped = strip(trained, /*do_copy=*/true, strip_format);
        EXPECT_LT(gap_between(trained, stripped), 1e-3) << static_cast<int>(strip_format);
        EXPECT_TRUE(find_trainable_weights(const_cast<Model&>(stripped)).empty());
        EXPECT_TRUE(trained_tensors(stripped.module()).empty());
      }
      strip(trained, /*do_copy=*/true, StripFormat::kDq).save(folder + "small.pt");
      EXPECT_LT(testing::bytes_of(folder + "small.pt").size(), testing::bytes_of(folder + "trained.pt").size());
    }
  }
}

// The formulas of NNCF's QuantizeSymmetric and QuantizeAsymmetric: inside of the levels the weight gets the gradient
// and the range the rounding error; beyond them the range gets all of it.
TEST(TrainableWeights, GradientsAreThoseOfNncf) {
  at::manual_seed(4);
  Model layer = Model::from(testing::define(
      "def forward(self, x: Tensor) -> Tensor:\n  return torch.linear(x, self.w)\n", {{"w", at::randn({12, 20})}}));
  auto module =
      compress_weights(layer, trainable_options(Mode::kInt4Sym, CompressionFormat::kFQ, -1)).model.finished_module();
  const at::Tensor weight = module.attr("w").toTensor(), limit = module.attr("w_limit").toTensor();
  {
    const at::NoGradGuard guard;
    limit.mul_(0.5);  // half of the range: values are cut
  }
  const at::Tensor value = module.forward({at::eye(20)}).toTensor().t();
  at::manual_seed(9);
  const at::Tensor gradient = at::randn(weight.sizes());
  value.backward(gradient);

  const at::NoGradGuard guard;
  const at::Tensor span = at::abs(limit) * (2 - 2.0 / 16);
  const at::Tensor low = at::where(limit > 0, -limit, limit * (1 - 2.0 / 16)), high = low + span;
  const at::Tensor below = (weight < low).to(at::kFloat), above = (weight > high).to(at::kFloat);
  const at::Tensor inside = 1 - below - above;
  EXPECT_GT(below.sum().item<float>() + above.sum().item<float>(), 10);
  EXPECT_TRUE(at::allclose(weight.grad(), gradient * inside, 1e-5, 1e-6));
  const at::Tensor rounding = (value - weight) / span * inside;
  const at::Tensor side = at::where(limit > 0, at::full({}, 1.0F), at::full({}, -1.0F));
  // d low / d limit and d high / d limit
  const at::Tensor of_low = at::where(limit > 0, at::full({}, -1.0F), at::full({}, 1 - 2.0F / 16));
  const at::Tensor of_high = at::where(limit > 0, at::full({}, 1 - 2.0F / 16), at::full({}, -1.0F));
  const at::Tensor expected =
      (gradient * (rounding * side * (2 - 2.0 / 16) + below * of_low + above * of_high)).sum(1, /*keepdim=*/true);
  EXPECT_TRUE(at::allclose(limit.grad(), expected, 1e-4, 1e-5));
}

TEST(TrainableWeights, CodesOfAnAlgorithmAreTheStart) {
  auto options = trainable_options(Mode::kInt4Sym, CompressionFormat::kFQ);
  options.all_layers = false;
  options.gptq = true;
  options.dataset = token_data();
  const auto trainable = compressed_lm(options);
  options.compression_format = CompressionFormat::kDQ;
  EXPECT_LT(gap_between(compressed_lm(options).model, trainable.model), 1e-3);
}

TEST(TrainableWeights, AdaptersFollowTheBits) {
  auto options = trainable_options(Mode::kInt4Sym, CompressionFormat::kFQLora);
  options.all_layers = false;
  const auto mixed = compressed_lm(options);
  for (const auto& record : mixed.report.weights) {
    const bool small = record.format == "int4_sym";
    EXPECT_EQ(record.algorithms.back(), small ? "trainable with adapters of rank 4" : "trainable") << record.name;
  }
  options.mode = Mode::kInt8Asym;
  options.group_size = c10::nullopt;
  for (const auto& record : compressed_lm(options).report.weights) {
    EXPECT_EQ(record.algorithms.back(), "trainable with adapters of rank 4") << record.name;
  }
  options.advanced_parameters.lora_adapter_rank = 33;
  const Error error = thrown_error([&] { compressed_lm(options); });
  EXPECT_NE(error.message().find("33"), std::string::npos);
  EXPECT_FALSE(error.place().empty());
}

TEST(TrainableWeights, CompressPt2eRefusesWhatCannotBeTrained) {
  const auto refused = [](Mode mode, bool adapters) {
    OpenVINOQuantizerOptions what;
    what.weights_only = WeightsOnlyOptions{mode, /*group_size=*/16};
    OpenVINOQuantizer quantizer(what);
    CompressPt2eOptions options;
    options.compression_format = CompressionFormat::kFQ;
    options.lora_correction = adapters;
    options.dataset = token_data();
    Model model = small_lm();
    return thrown_error([&] { compress_pt2e(model, quantizer, options); });
  };
  EXPECT_NE(refused(Mode::kNf4, false).message().find("cannot be trained"), std::string::npos);
  EXPECT_NE(refused(Mode::kInt4Sym, true).message().find("lora_correction needs"), std::string::npos);
}

TEST(TrainableWeights, TheFormFakeQuantizeIsTheSame) {
  auto options = int4_options();
  options.form = OutputForm::kFakeQuantize;
  const auto by_form = compressed_lm(options);
  EXPECT_EQ(by_form.report.form, "fake_quantize");
  options.form = OutputForm::kReference;
  options.compression_format = CompressionFormat::kFQ;
  const auto by_format = compressed_lm(options);
  EXPECT_EQ(by_format.report.form, "fake_quantize");
  EXPECT_EQ(ir_of(by_form.model), ir_of(by_format.model));
}

TEST(TrainableWeights, TrainedNaNsAreRefused) {
  const auto compressed = compressed_lm(trainable_options(Mode::kInt4Sym, CompressionFormat::kFQ));
  Model model = compressed.model.clone();
  model.module().setattr("gate_limit", at::full_like(model.module().attr("gate_limit").toTensor(), NAN));
  const Error error = thrown_error([&] { strip(model, true, StripFormat::kDq); });
  EXPECT_EQ(error.place(), "gate");
}

}  // namespace
}  // namespace tsquant
