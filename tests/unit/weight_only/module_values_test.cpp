#include "support/thrown_error.h"
#include "test_models.h"
#include "tsquant/weight_only.h"

namespace tsquant::testing {
namespace {

using torch::jit::Module;

Dataset batches_of(const std::string& model) {
  std::vector<at::Tensor> batches;
  for (int i = 0; i < 3; ++i) batches.push_back(model_array(model + ".batch" + std::to_string(i)));
  return Dataset::from_tensors(batches);
}

ModuleHookConfig config_of(const nlohmann::json& run) { return run["hook_config"].get<ModuleHookConfig>(); }

class ModuleValuesOf : public ::testing::TestWithParam<const char*> {
 protected:
  const std::string name_ = GetParam();

  void check(const ModuleValues& values, const std::string& side, const std::vector<c10::IValue>& got, size_t count) {
    ASSERT_EQ(got.size(), count) << values.name << " " << side;
    for (size_t i = 0; i < count; ++i) {
      const auto golden = model_array(name_ + ".it-1." + values.name + "." + side + "." + std::to_string(i));
      EXPECT_EQ(got[i].toTensor().sizes(), golden.sizes());
      EXPECT_TRUE(at::allclose(got[i].toTensor(), golden, 1e-4, 1e-5)) << values.name << " " << side << " " << i;
    }
  }
};

TEST_P(ModuleValuesOf, AreThoseOfPythonsHooks) {
  const auto golden = expected_of(name_);
  ASSERT_EQ(golden["get_module_input_output"].size(), 2u);
  for (const auto& run : golden["get_module_input_output"]) {
    const auto values = get_module_input_output(traced(name_), config_of(run), batches_of(name_), run["iters"], {}, {},
                                                {}, /*strict=*/false);
    const auto& expected = run["values"];
    ASSERT_EQ(values.size(), expected.size());
    for (const auto& entry : values) {
      const auto& counts = expected.at(entry.name);
      check(entry, "input", entry.input, counts.value("input", 0));
      check(entry, "output", entry.output, counts.value("output", 0));
    }
  }
}

TEST_P(ModuleValuesOf, GoThroughTheFunctions) {
  const auto expected = expected_of(name_);
  const auto& numbers = expected["with_funcs_mean_absmax"];
  ModuleHookConfig config;
  for (const auto& [name, sides] : numbers.items()) config[name] = {"output", "input"};
  const auto mean = [](const c10::IValue& x) { return x.toTensor().mean(); };
  const auto largest = [](const c10::IValue& x) { return x.toTensor().abs().max(); };
  const auto values = get_module_input_output(traced(name_), config, batches_of(name_), 1, {}, mean, largest);
  ASSERT_EQ(values.size(), numbers.size());
  for (const auto& entry : values) {
    for (const auto& [side, got] : {std::pair{"input", entry.input}, std::pair{"output", entry.output}}) {
      const auto golden = numbers.at(entry.name).value(side, std::vector<double>());
      ASSERT_EQ(got.size(), golden.size());
      for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i].toTensor().item<double>(), golden[i], 1e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(IncGolden, ModuleValuesOf, ::testing::Values("convnet", "tiny_transformer", "mixed"));

TEST(ModuleValues, AreInTheOrderInWhichModulesEnd) {
  const ModuleHookConfig config = {
      {"shared", {"output"}}, {"stages", {"output"}}, {"rms", {"input"}}, {"stages.1", {"input"}}};
  std::vector<std::string> names;
  for (const auto& values : get_module_input_output(traced("mixed"), config, batches_of("mixed"))) {
    names.push_back(values.name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"stages.1", "stages", "rms", "shared"}));
}

/// Upstream fails: its hook applies input_func to an input that it did not record.
TEST(ModuleValues, InputFuncDoesNotConcernOutputs) {
  const auto fail = [](const c10::IValue& x) -> c10::IValue { throw std::runtime_error("input_func was called"); };
  const auto values =
      get_module_input_output(traced("convnet"), {{"conv2", {"output"}}}, batches_of("convnet"), -1, {}, fail);
  ASSERT_EQ(values.size(), 1u);
  EXPECT_EQ(values[0].output.size(), 3u);
  EXPECT_TRUE(values[0].input.empty());
}

TEST(ModuleValues, ACalibFunctionMayRunTheModel) {
  const auto batch = model_array("convnet.batch0");
  Module kept;
  const auto twice = [&](Module& model) {
    for (int i = 0; i < 2; ++i) model.forward({batch});
    kept = model;
  };
  const auto values = get_module_input_output(traced("convnet"), {{"", {"input"}}}, c10::nullopt, -1, twice);
  ASSERT_EQ(values.size(), 1u);
  ASSERT_EQ(values[0].input.size(), 2u);
  EXPECT_TRUE(values[0].input[0].toTensor().is_same(batch));
  EXPECT_TRUE(kept.forward({batch}).isTensor());  // still runs, and records nothing
}

TEST(ModuleValues, TakeTheFirstOfSeveralResults) {
  const Module pair = define("def forward(self, x, n: int):\n  return (x + n, x)\n");
  const Module model = define("def forward(self, x):\n  return self.pair.forward(x, 5)[1]\n", {}, {{"pair", pair}});
  const auto data = Dataset::from_tensors({at::ones({1})});
  const auto values = get_module_input_output(model, {{"pair", {"input", "output"}}}, data);
  EXPECT_EQ(values.at(0).input.at(0).toTensor().item<float>(), 1);
  EXPECT_EQ(values.at(0).output.at(0).toTensor().item<float>(), 6);
}

TEST(ModuleValues, LeaveTheModelAlone) {
  Module model = traced("convnet");
  const auto batch = model_array("convnet.batch0");
  get_module_input_output(model, {{"conv2", {"input"}}}, batches_of("convnet"));
  EXPECT_TRUE(model.get_method("forward").function().isGraphFunction());
  EXPECT_TRUE(get_module(model, "conv2").get_method("forward").function().isGraphFunction());
  EXPECT_TRUE(model.forward({batch}).isTensor());
}

TEST(ModuleValues, ErrorsSayWhatIsWrong) {
  const Module model = traced("convnet");
  const auto data = batches_of("convnet");
  const auto error_of = [&](const ModuleHookConfig& config) {
    return thrown_error([&] { get_module_input_output(model, config, data); });
  };
  const Error unknown = error_of({{"conv9", {"input"}}});
  EXPECT_EQ(unknown.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(unknown.advice().find("conv1"), std::string::npos);
  EXPECT_EQ(error_of({{"conv1", {"inputs"}}}).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([&] { get_module_input_output(model, {}); }).place(), "data");
  EXPECT_EQ(thrown_error([&] { get_module_input_output(model, {}, data, -1, [](Module&) {}); }).place(), "data");
  const auto fail = [](const c10::IValue&) -> c10::IValue { throw std::invalid_argument("no such thing"); };
  EXPECT_THROW(get_module_input_output(model, {{"conv1", {"input"}}}, data, -1, {}, fail), std::invalid_argument);
  const Module bare = define("def forward(self):\n  return torch.ones(1)\n");
  const Module with_bare = define("def forward(self, x):\n  return x + self.bare.forward()\n", {}, {{"bare", bare}});
  const auto one = Dataset::from_tensors({at::ones({1})});
  const auto bare_input = [&] { get_module_input_output(with_bare, {{"bare", {"input"}}}, one); };
  EXPECT_EQ(thrown_error(bare_input).code(), ErrorCode::kUnsupportedModel);
  const Module idle = define("def forward(self, x):\n  return x\n", {}, {{"bare", bare}});
  const auto idle_output = [&] { get_module_input_output(idle, {{"bare", {"output"}}}, one); };
  EXPECT_EQ(thrown_error(idle_output).code(), ErrorCode::kUnsupportedModel);
}

}  // namespace
}  // namespace tsquant::testing
