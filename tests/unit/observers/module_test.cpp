#include "tsquant/observer_module.h"

#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <cmath>
#include <sstream>

#include "tsquant/error.h"
#include "unit/observers/module_golden.h"

namespace tsquant {
namespace {

using testing::run;

std::vector<ObserverConfig> all_configs() {
  std::vector<ObserverConfig> result;
  const auto add = [&](ObserverType type, FakeQuantizeType fake_quantize, c10::QScheme scheme) {
    ObserverConfig config;
    config.type = type, config.fake_quantize = fake_quantize, config.qscheme = scheme;
    result.push_back(config);
  };
  using Type = ObserverType;
  using Fake = FakeQuantizeType;
  for (auto type : {Type::kMinMax, Type::kMovingAverageMinMax}) {
    for (auto fake : {Fake::kNone, Fake::kFakeQuantize, Fake::kLearnable}) add(type, fake, c10::kPerTensorAffine);
  }
  for (auto type : {Type::kPerChannelMinMax, Type::kMovingAveragePerChannelMinMax}) {
    for (auto fake : {Fake::kNone, Fake::kFakeQuantize, Fake::kLearnable}) add(type, fake, c10::kPerChannelAffine);
  }
  add(Type::kMovingAverageMinMax, Fake::kFusedMovingAvgObs, c10::kPerTensorAffine);
  add(Type::kMovingAveragePerChannelMinMax, Fake::kFusedMovingAvgObs, c10::kPerChannelAffine);
  add(Type::kFixedQParams, Fake::kNone, c10::kPerTensorAffine);
  add(Type::kFixedQParams, Fake::kFixedQParams, c10::kPerTensorAffine);
  add(Type::kHistogram, Fake::kNone, c10::kPerTensorAffine);
  add(Type::kHistogram, Fake::kNone, c10::kPerTensorAffine);
  result.back().histogram_rule = HistogramRule::kTorch1_13;
  for (auto type : {Type::kPlaceholder, Type::kRecording, Type::kNoop, Type::kReuseInput, Type::kSampleExtrema}) {
    add(type, Fake::kNone, c10::kPerTensorAffine);
  }
  return result;
}

torch::jit::Module reloaded(const torch::jit::Module& module) {
  std::stringstream file;
  module.save(file);
  return torch::jit::load(file);
}

bool has_statistics(const ObserverConfig& config) {
  return config.type != ObserverType::kPlaceholder && config.type != ObserverType::kRecording &&
         config.type != ObserverType::kNoop && config.type != ObserverType::kReuseInput &&
         config.type != ObserverType::kSampleExtrema;
}

void expect_same_state(const torch::jit::Module& a, const torch::jit::Module& b) {
  auto other = b.named_buffers().begin();
  for (const auto& buffer : a.named_buffers()) {
    EXPECT_EQ(buffer.name, (*other).name);
    EXPECT_TRUE(at::equal(buffer.value, (*other).value)) << buffer.name;
    ++other;
  }
}

TEST(ObserverModule, EveryKindRunsSavesLoadsAndRunsOn) {
  for (const auto& config : all_configs()) {
    auto module = make_observer_module(config);
    const auto x = torch::randn({3, 4, 5});
    EXPECT_EQ(run(module, x).sizes(), x.sizes());
    auto copy = reloaded(module);
    expect_same_state(module, copy);
    const auto next = torch::randn({3, 4, 5}) * 2;
    EXPECT_TRUE(at::equal(run(module, next), run(copy, next)));
    expect_same_state(module, copy);
  }
}

TEST(ObserverModule, AModuleThatWasSavedBeforeItRanIsUsable) {
  for (const auto& config : all_configs()) {
    for (const bool inference : {false, true}) {
      auto module = make_observer_module(config), copy = reloaded(module);
      const auto x = torch::randn({3, 4, 5});
      {
        const c10::InferenceMode guard(inference);
        run(copy, x);
      }
      run(module, x);
      EXPECT_TRUE(at::equal(run(module, x * 2), run(copy, x * 2)));
      expect_same_state(module, copy);
    }
  }
}

TEST(ObserverModule, AConfigIsReadBackExactly) {
  for (auto config : all_configs()) {
    for (const bool custom : {false, true}) {
      if (custom) {
        config.eps = 1e-5, config.averaging_constant = 0.3, config.ch_axis = 1, config.bins = 100;
        config.quant_min = -5, config.quant_max = 100, config.dtype = c10::kQInt8, config.reduce_range = true;
        config.scale = 0.1, config.zero_point = 3, config.is_dynamic = true, config.use_grad_scaling = true;
      }
      const auto module = make_observer_module(config);
      ASSERT_TRUE(is_observer_module(module));
      EXPECT_TRUE(observer_config_of(module) == config) << module.dump_to_str(false, true, true);
      EXPECT_TRUE(observer_config_of(reloaded(module)) == config);
      if (config.type == ObserverType::kPlaceholder) EXPECT_EQ(observer_config_of(module).is_dynamic, custom);
    }
  }
}

TEST(ObserverModule, ModulesOfOneKindShareTheirClass) {
  for (const auto& config : all_configs()) {
    const auto unit = std::make_shared<torch::jit::CompilationUnit>();
    auto other = config;
    other.eps = 0.5;
    other.quant_max = 100, other.quant_min = 0;
    const auto a = make_observer_module(config, unit), b = make_observer_module(other, unit);
    EXPECT_EQ(a.type(), b.type());
    EXPECT_FALSE(observer_config_of(a) == observer_config_of(b));
  }
}

TEST(ObserverModule, AllKindsInOneModelAreSavedAndLoaded) {
  const auto unit = std::make_shared<torch::jit::CompilationUnit>();
  torch::jit::Module model("__torch__.Net", unit);
  model.register_attribute("training", c10::BoolType::get(), false);
  std::string source = "def forward(self, x):\n";
  int count = 0;
  for (const auto& config : all_configs()) {
    for (int i = 0; i < 2; ++i) {
      const auto name = "observer_" + std::to_string(count++);
      model.register_module(name, make_observer_module(config, unit));
      source += "    x = self." + name + ".forward(x)\n";
    }
  }
  model.define(source + "    return x\n");
  const auto x = torch::rand({2, 3});
  const auto expected = model.forward({x});
  auto copy = reloaded(model);
  expect_same_state(model, copy);
  const auto added = make_observer_module(all_configs().front(), copy._ivalue()->compilation_unit());
  EXPECT_EQ(added.type(), copy.attr("observer_0").toModule().type());
  count = 0;
  for (const auto& config : all_configs()) {
    EXPECT_TRUE(observer_config_of(copy.attr("observer_" + std::to_string(2 * count++)).toModule()) == config);
  }
}

TEST(ObserverModule, BuffersHaveTorchAosNamesAndShapes) {
  ObserverConfig config;
  config.fake_quantize = FakeQuantizeType::kFakeQuantize;
  const auto module = make_observer_module(config);
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& buffer : module.named_buffers()) shapes[buffer.name] = buffer.value.sizes().vec();
  const std::map<std::string, std::vector<int64_t>> expected{{"scale", {1}},
                                                             {"zero_point", {1}},
                                                             {"fake_quant_enabled", {1}},
                                                             {"observer_enabled", {1}},
                                                             {"activation_post_process.eps", {1}},
                                                             {"activation_post_process.min_val", {}},
                                                             {"activation_post_process.max_val", {}}};
  EXPECT_EQ(shapes, expected);
  EXPECT_EQ(module.attr("observer_enabled").toTensor().scalar_type(), c10::kByte);
  config.fake_quantize = FakeQuantizeType::kNone;
  config.type = ObserverType::kPerChannelMinMax, config.qscheme = c10::kPerChannelAffine;
  EXPECT_EQ(make_observer_module(config).attr("min_val").toTensor().sizes(), c10::IntArrayRef({0}));
  config.type = ObserverType::kHistogram, config.qscheme = c10::kPerTensorAffine, config.bins = 77;
  EXPECT_EQ(make_observer_module(config).attr("histogram").toTensor().sizes(), c10::IntArrayRef({77}));
}

/// A state dict replaces buffers, or is copied into them.
TEST(ObserverModule, BuffersOfAStateDictAreTakenOver) {
  ObserverConfig config;
  config.type = ObserverType::kPerChannelMinMax, config.qscheme = c10::kPerChannelAffine, config.ch_axis = 1;
  auto module = make_observer_module(config);
  module.setattr("min_val", torch::tensor({-1.0F, -2.0F}));
  module.setattr("max_val", torch::tensor({1.0F, 2.0F}));
  module.setattr("eps", torch::tensor({0.5F}));
  config.eps = 0.5;
  EXPECT_TRUE(observer_config_of(module) == config);
  EXPECT_TRUE(at::equal(calculate_qparams(module).scale, torch::tensor({0.5F, 0.5F})));
  run(module, torch::full({1, 2}, 5.0F));
  EXPECT_TRUE(at::equal(module.attr("max_val").toTensor(), torch::tensor({5.0F, 5.0F})));
}

TEST(ObserverModule, EmptyTensorsAreIgnored) {
  for (const auto& config : all_configs()) {
    if (config.type == ObserverType::kRecording) continue;
    auto module = make_observer_module(config);
    const auto fresh = make_observer_module(config);
    EXPECT_EQ(run(module, torch::empty({0, 4})).sizes(), c10::IntArrayRef({0, 4}));
    expect_same_state(module, fresh);
  }
}

TEST(ObserverModule, HalfAndDoubleTensorsKeepTheirType) {
  for (const auto& config : all_configs()) {
    for (const auto type : {at::kHalf, at::kBFloat16, at::kDouble}) {
      auto module = make_observer_module(config), reference = make_observer_module(config);
      const auto x = torch::randn({4, 6}).to(type);
      EXPECT_EQ(run(module, x).scalar_type(), type);
      run(reference, x.to(at::kFloat));
      if (has_statistics(config)) {
        EXPECT_TRUE(at::equal(calculate_qparams(module).scale, calculate_qparams(reference).scale));
      }
    }
  }
}

TEST(ObserverModule, RunsInInferenceModeAndThenTrains) {
  for (const auto& config : all_configs()) {
    torch::jit::Module module;
    {
      const c10::InferenceMode guard;
      module = make_observer_module(config);
      run(module, torch::randn({4, 6}));
      run(module, torch::randn({4, 6}));
    }
    auto x = torch::randn({4, 6}).requires_grad_();
    run(module, x).sum().backward();
    EXPECT_TRUE(x.grad().defined());
    for (const auto& buffer : module.named_buffers()) EXPECT_FALSE(buffer.value.requires_grad()) << buffer.name;
  }
}

TEST(ObserverModule, AnObserverReturnsItsInputAndPassesGradientsUnchanged) {
  for (const auto& config : all_configs()) {
    if (config.fake_quantize != FakeQuantizeType::kNone) continue;
    auto module = make_observer_module(config);
    auto x = torch::randn({4, 6}).requires_grad_();
    const auto y = run(module, x);
    EXPECT_TRUE(y.is_same(x));
    (y * 3).sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), torch::full({4, 6}, 3.0F)));
  }
}

TEST(ObserverModule, TheSwitchesReachEveryModuleBelow) {
  for (const auto& config : all_configs()) {
    if (config.fake_quantize == FakeQuantizeType::kNone) continue;
    const auto unit = std::make_shared<torch::jit::CompilationUnit>();
    torch::jit::Module model("__torch__.Net", unit);
    model.register_module("fq", make_observer_module(config, unit));
    model.define("def forward(self, x):\n    return self.fq.forward(x)\n");
    const auto x = torch::randn({4, 6}), other = x * 10;
    auto inner = model.attr("fq").toModule();
    run(model, x);
    disable_fake_quant(model);
    disable_observer(model);
    const auto scale = inner.attr("scale").toTensor().clone();
    EXPECT_TRUE(at::equal(run(model, other), other));
    EXPECT_TRUE(at::equal(inner.attr("scale").toTensor(), scale));
    enable_fake_quant(model);
    EXPECT_FALSE(at::equal(run(model, other), other));
    EXPECT_TRUE(at::equal(inner.attr("scale").toTensor(), scale));
    enable_observer(model);
    run(model, other);
    EXPECT_EQ(at::equal(inner.attr("scale").toTensor(), scale), config.type == ObserverType::kFixedQParams);
  }
}

/// A learnable scale follows the observer without a gradient, and then the optimizer alone.
TEST(ObserverModule, ALearnableScaleIsTrained) {
  for (const bool per_channel : {false, true}) {
    ObserverConfig config;
    config.type = per_channel ? ObserverType::kPerChannelMinMax : ObserverType::kMinMax;
    config.qscheme = per_channel ? c10::kPerChannelAffine : c10::kPerTensorAffine;
    config.fake_quantize = FakeQuantizeType::kLearnable;
    auto module = make_observer_module(config);
    std::vector<at::Tensor> parameters;
    for (const auto& parameter : module.parameters()) parameters.push_back(parameter);
    ASSERT_EQ(parameters.size(), 2u);
    torch::optim::SGD optimizer(parameters, torch::optim::SGDOptions(1e-5));
    const auto x = torch::randn({4, 6});
    run(module, x.clone().requires_grad_()).sum().backward();
    EXPECT_FALSE(parameters[0].grad().defined());
    const auto observed = parameters[0].detach().clone();
    EXPECT_EQ(observed.numel(), per_channel ? 4 : 1);
    disable_observer(module);
    (run(module, x) - x * 0.5).pow(2).sum().backward();
    optimizer.step();
    EXPECT_FALSE(at::equal(parameters[0].detach(), observed));
    run(module, x * 100);
    const auto q = calculate_qparams(module);
    EXPECT_TRUE(at::equal(q.scale, parameters[0].detach()));
  }
}

/// Quantization-aware training of one weight, saved and loaded in between.
TEST(ObserverModule, AModelLearnsThroughFakeQuantizes) {
  for (const auto fake :
       {FakeQuantizeType::kFakeQuantize, FakeQuantizeType::kFusedMovingAvgObs, FakeQuantizeType::kLearnable}) {
    ObserverConfig config;
    config.type = ObserverType::kMovingAveragePerChannelMinMax, config.qscheme = c10::kPerChannelSymmetric;
    config.dtype = c10::kQInt8, config.fake_quantize = fake, config.averaging_constant = 1;
    // With [-128, 127] torch.ao clips the largest weight of a channel, which then has no gradient.
    config.quant_min = -127, config.quant_max = 127;
    const auto unit = std::make_shared<torch::jit::CompilationUnit>();
    torch::jit::Module model("__torch__.Net", unit);
    model.register_parameter("weight", torch::zeros({3, 4}).requires_grad_(), false);
    model.register_module("fake_quantize", make_observer_module(config, unit));
    model.define("def forward(self, x):\n    return torch.matmul(x, self.fake_quantize.forward(self.weight).t())\n");
    torch::manual_seed(3);
    const auto x = torch::randn({32, 4}), y = x.matmul(torch::randn({4, 3}));
    double first = 0, last = 0;
    for (int round = 0; round < 2; ++round) {
      if (round == 1) model = reloaded(model);
      std::vector<at::Tensor> parameters;
      for (const auto& parameter : model.parameters()) parameters.push_back(parameter);
      torch::optim::SGD optimizer(parameters, torch::optim::SGDOptions(0.5));
      for (int step = 0; step < 30; ++step) {
        optimizer.zero_grad();
        const auto loss = (model.forward({x}).toTensor() - y).pow(2).mean();
        loss.backward();
        optimizer.step();
        last = loss.item<double>();
        if (round == 0 && step == 0) first = last;
      }
    }
    EXPECT_LT(last, first / 1000) << static_cast<int>(fake);
  }
}

TEST(ObserverModule, RecordingKeepsEveryTensor) {
  ObserverConfig config;
  config.type = ObserverType::kRecording;
  auto module = make_observer_module(config);
  auto x = torch::randn({2});
  run(module, x);
  x.zero_();
  run(module, x);
  const auto kept = module.attr("tensor_val").toTensorVector();
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_FALSE(at::equal(kept[0], kept[1]));
}

TEST(ObserverModule, AChangeOfTheNumberOfChannelsIsRefused) {
  for (const auto type : {ObserverType::kPerChannelMinMax, ObserverType::kMovingAveragePerChannelMinMax}) {
    ObserverConfig config;
    config.type = type, config.qscheme = c10::kPerChannelAffine;
    auto module = make_observer_module(config);
    run(module, torch::randn({4, 2}));
    try {
      run(module, torch::randn({1, 2}));
      FAIL();
    } catch (const std::exception& error) {
      EXPECT_NE(std::string(error.what()).find("number of channels changed"), std::string::npos) << error.what();
    }
  }
}

/// What torch.jit.script makes of torch.ao's own classes: other packages, no attributes of ours.
TEST(ObserverModule, ModulesOfTorchAoAreRead) {
  const auto unit = std::make_shared<torch::jit::CompilationUnit>();
  torch::jit::Module observer("__torch__.torch.ao.quantization.observer.MovingAverageMinMaxObserver", unit);
  observer.register_attribute("dtype", c10::IntType::get(), static_cast<int64_t>(c10::kQInt8));
  observer.register_attribute("qscheme", c10::IntType::get(), static_cast<int64_t>(c10::kPerTensorSymmetric));
  observer.register_attribute("reduce_range", c10::BoolType::get(), true);
  observer.register_attribute("quant_min", c10::IntType::get(), -64);
  observer.register_attribute("quant_max", c10::IntType::get(), 63);
  observer.register_attribute("has_customized_qrange", c10::BoolType::get(), true);
  observer.register_attribute("averaging_constant", c10::IntType::get(), 1);
  observer.register_buffer("eps", torch::tensor({0.25F}));
  observer.register_buffer("min_val", torch::tensor(-2.0F));
  observer.register_buffer("max_val", torch::tensor(1.0F));
  torch::jit::Module module("__torch__.torch.ao.quantization.fake_quantize.FakeQuantize", unit);
  module.register_module("activation_post_process", observer);
  ObserverConfig expected;
  expected.type = ObserverType::kMovingAverageMinMax, expected.fake_quantize = FakeQuantizeType::kFakeQuantize;
  expected.dtype = c10::kQInt8, expected.qscheme = c10::kPerTensorSymmetric, expected.reduce_range = true;
  expected.quant_min = -128, expected.quant_max = 127, expected.averaging_constant = 1, expected.eps = 0.25;
  ASSERT_TRUE(is_observer_module(module));
  EXPECT_TRUE(observer_config_of(module) == expected);
  EXPECT_FLOAT_EQ(calculate_qparams(module).scale.item<float>(), 0.25F);
}

TEST(ObserverModule, OtherModulesAreNone) {
  torch::jit::Module module("__torch__.MinMaxObserver");
  EXPECT_FALSE(is_observer_module(module));
  EXPECT_THROW(observer_config_of(module), Error);
  EXPECT_THROW(calculate_qparams(module), Error);
  torch::jit::Module fake("__torch__.FakeQuantize");
  fake.register_attribute("activation_post_process", c10::IntType::get(), 1);
  EXPECT_FALSE(is_observer_module(fake));
}

}  // namespace
}  // namespace tsquant
