#include "tsquant/fx/backend_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "fx_golden.h"

namespace tsquant::testing {
namespace {

using Json = nlohmann::json;
using fx::ObservationType;

std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

/// Layers, and functions whose operator has another name, by the operator of our rows.
const std::map<std::string, std::string>& merged_names() {
  static const std::map<std::string, std::string> names{
      {"Conv1d", "conv1d"},
      {"Conv2d", "conv2d"},
      {"Conv3d", "conv3d"},
      {"ConvTranspose1d", "conv_transpose1d"},
      {"ConvTranspose2d", "conv_transpose2d"},
      {"ConvTranspose3d", "conv_transpose3d"},
      {"Linear", "linear"},
      {"ReLU", "relu"},
      {"ReLU6", "relu6"},
      {"ELU", "elu"},
      {"LeakyReLU", "leaky_relu"},
      {"PReLU", "prelu"},
      {"Hardswish", "hardswish"},
      {"Hardtanh", "hardtanh"},
      {"Hardsigmoid", "hardsigmoid"},
      {"Sigmoid", "sigmoid"},
      {"Tanh", "tanh"},
      {"InstanceNorm1d", "instance_norm"},
      {"InstanceNorm2d", "instance_norm"},
      {"InstanceNorm3d", "instance_norm"},
      {"LayerNorm", "layer_norm"},
      {"Dropout", "dropout"},
      {"LSTM", "lstm"},
      {"LSTMCell", "lstm_cell"},
      {"GRUCell", "gru_cell"},
      {"RNNCell", "rnn_tanh_cell"},
      {"Embedding", "embedding"},
      {"EmbeddingBag", "embedding_bag"},
      {"AdaptiveAvgPool1d", "adaptive_avg_pool1d"},
      {"AdaptiveAvgPool2d", "adaptive_avg_pool2d"},
      {"AdaptiveAvgPool3d", "adaptive_avg_pool3d"},
      {"AvgPool1d", "avg_pool1d"},
      {"AvgPool2d", "avg_pool2d"},
      {"AvgPool3d", "avg_pool3d"},
      {"MaxPool1d", "max_pool1d"},
      {"MaxPool2d", "max_pool2d"},
      {"MaxPool3d", "max_pool3d"},
  };
  return names;
}

std::string our_name(const std::string& golden) {
  std::string name = last_part(golden);
  const auto merged = merged_names().find(name);
  if (merged != merged_names().end()) return merged->second;
  if (std::isupper(static_cast<unsigned char>(name.front()))) return "torch.nn." + name;
  if (name.size() > 1 && name.back() == '_') name.pop_back();
  return name;
}

/// Innermost operator first.
void collect(const Json& pattern, std::vector<std::string>& elements) {
  if (pattern.is_string()) return elements.push_back(pattern.get<std::string>());
  collect(pattern[1], elements);
  collect(pattern[0], elements);
}

/// Rows that a TorchScript graph has no operator for: what FX fuses or swaps before it observes, and integers.
bool has_no_row(const std::vector<std::string>& elements) {
  static const std::set<std::string> without_operator{"floordiv", "shape", "size", "Identity"};
  for (size_t i = 0; i < elements.size(); ++i) {
    const bool is_module_of_fx =
        elements[i].find("intrinsic") != std::string::npos || elements[i].find(".qat.") != std::string::npos;
    const bool is_folded = i > 0 && last_part(elements[i]).rfind("BatchNorm", 0) == 0;
    if (is_module_of_fx || is_folded || without_operator.count(last_part(elements[i]))) return true;
  }
  return false;
}

std::string dtype_text(const c10::optional<c10::ScalarType>& dtype) {
  static const std::map<c10::ScalarType, std::string> names{
      {c10::kQUInt8, "quint8"},     {c10::kQInt8, "qint8"},  {c10::kFloat, "float32"},
      {c10::kQUInt4x2, "quint4x2"}, {c10::kHalf, "float16"},
  };
  return dtype ? names.at(*dtype) : "None";
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const auto& part : parts) text += part + " ";
  return text;
}

/// "conv2d relu | USE | quint8 quint8 qint8 float32 None; "
std::string text_of(const std::vector<std::string>& pattern, const std::string& type,
                    const std::vector<std::vector<std::string>>& dtypes) {
  std::string text = joined(pattern) + "| " + type + " | ";
  for (const auto& config : dtypes) text += joined(config) + "; ";
  return text;
}

std::set<std::string> golden_rows(const std::string& backend) {
  const auto& golden = fx_golden()["backends"][backend];
  std::set<std::string> rows;
  for (const auto& row : golden["patterns"]) {
    std::vector<std::string> elements, names;
    collect(row[0], elements);
    if (has_no_row(elements)) continue;
    for (const auto& element : elements) names.push_back(our_name(element));
    // torch.relu, F.relu and ReLU are one operator; dropout does nothing in what is observed here.
    const bool shares = row[1] == "SHARE" || names == std::vector<std::string>{"dropout"};
    std::vector<std::vector<std::string>> dtypes;
    for (const auto& config : golden["dtypes"][row[2].get<size_t>()]) {
      // The fixed observers are unsigned, so the signed types of such operators can never be used.
      if (!row[4].is_null() && config[0] == "qint8") continue;
      dtypes.emplace_back();
      for (const auto& dtype : config) dtypes.back().push_back(dtype.is_null() ? "None" : dtype.get<std::string>());
    }
    rows.insert(text_of(names, shares ? "SHARE" : "USE", dtypes));
  }
  return rows;
}

std::set<std::string> our_rows(const fx::BackendConfig& backend) {
  std::set<std::string> rows;
  for (const auto& config : backend.configs()) {
    if (config.dtype_configs.empty()) continue;  // GroupNorm, which has no row in torch.ao
    // torch.ao 2.x has GRU; the other nonlinearity of RNNCell is an operator of its own here.
    if (config.pattern.back() == "gru" || config.pattern.back() == "rnn_relu_cell") continue;
    std::vector<std::vector<std::string>> dtypes;
    for (const auto& types : config.dtype_configs) {
      dtypes.push_back({dtype_text(types.input_dtype.dtype), dtype_text(types.output_dtype.dtype),
                        dtype_text(types.weight_dtype.dtype), dtype_text(types.bias_dtype),
                        types.is_dynamic ? "True" : "None"});
    }
    const bool shares = config.observation_type == ObservationType::kOutputShareObserverWithInput;
    rows.insert(text_of(config.pattern, shares ? "SHARE" : "USE", dtypes));
  }
  return rows;
}

TEST(FxBackendConfig, rows_are_torch_ao_s) {
  const std::map<std::string, fx::BackendConfig> backends{{"native", fx::get_native_backend_config()},
                                                          {"fbgemm", fx::get_fbgemm_backend_config()},
                                                          {"qnnpack", fx::get_qnnpack_backend_config()}};
  for (const auto& [name, backend] : backends) {
    EXPECT_EQ(backend.name(), name);
    const auto golden = golden_rows(name), ours = our_rows(backend);
    EXPECT_GT(golden.size(), 60u);
    for (const auto& row : golden) EXPECT_TRUE(ours.count(row)) << name << " lacks " << row;
    for (const auto& row : ours) EXPECT_TRUE(golden.count(row)) << name << " has besides " << row;
  }
}

fx::BackendPatternConfig row_of(const fx::BackendConfig& backend, const std::vector<std::string>& pattern) {
  for (const auto& config : backend.configs()) {
    if (config.pattern == pattern) return config;
  }
  throw std::runtime_error("no row");
}

TEST(FxBackendConfig, operands_that_are_numbers_decide) {
  const auto types = row_of(fx::get_native_backend_config(), {"mul", "relu"}).num_tensor_args_to_observation_type;
  EXPECT_EQ(types.at(1), ObservationType::kOutputShareObserverWithInput);
  EXPECT_EQ(types.at(2), ObservationType::kOutputUseDifferentObserverAsInput);
}

TEST(FxBackendConfig, qnnpack_limits_signed_codes) {
  const auto types = row_of(fx::get_qnnpack_backend_config(), {"conv2d"}).dtype_configs.front();
  EXPECT_EQ(types.weight_dtype.quant_min_lower_bound, -127);
  EXPECT_EQ(types.weight_dtype.quant_max_upper_bound, 127);
  EXPECT_EQ(types.input_dtype.scale_min_lower_bound, std::exp2(-12));
  EXPECT_FALSE(types.input_dtype.quant_min_lower_bound);
}

TEST(FxBackendConfig, json_keeps_every_backend) {
  for (const auto& backend :
       {fx::get_native_backend_config(), fx::get_x86_backend_config(), fx::get_onednn_backend_config(),
        fx::get_qnnpack_backend_config(), fx::get_tensorrt_backend_config()}) {
    EXPECT_EQ(fx::BackendConfig::from_json(backend.to_json()), backend) << backend.name();
  }
  EXPECT_NE(fx::get_onednn_backend_config().configs().size(), fx::get_x86_backend_config().configs().size());
}

TEST(FxBackendConfig, an_entry_takes_the_place_of_one_with_its_pattern) {
  fx::BackendConfig backend("own");
  fx::DTypeConfig types;
  types.input_dtype.dtype = types.output_dtype.dtype = c10::kQInt8;
  backend.set_backend_pattern_config(fx::BackendPatternConfig({"relu"}).add_dtype_config(types));
  backend.set_backend_pattern_configs(
      {fx::BackendPatternConfig({"relu"}).set_observation_type(ObservationType::kInputOutputNotObserved)});
  ASSERT_EQ(backend.configs().size(), 1u);
  EXPECT_TRUE(backend.configs().front().dtype_configs.empty());
}

TEST(FxBackendConfig, what_makes_no_sense_is_refused) {
  fx::BackendConfig backend("own");
  EXPECT_EQ(thrown_by([&] { backend.set_backend_pattern_config({}); }).message(), "an entry has no pattern");
  EXPECT_EQ(thrown_by([&] { backend.set_backend_pattern_config(fx::BackendPatternConfig({"reluu"})); }).message(),
            "LibTorch has no operator \"reluu\"");
  fx::DTypeConfig types;
  types.input_dtype.dtype = types.output_dtype.dtype = c10::kQUInt8;
  types.is_dynamic = true;
  EXPECT_EQ(thrown_by([&] {
              backend.set_backend_pattern_config(fx::BackendPatternConfig({"linear"}).add_dtype_config(types));
            }).message(),
            "linear is dynamic, but its result is quantized");
  EXPECT_EQ(thrown_by([] { fx::BackendConfig::from_json(R"({"configs": [{"patern": ["relu"]}]})"); }).place(),
            "backend_config.configs[0].patern");
  EXPECT_EQ(thrown_by([] {
              fx::BackendConfig::from_json(
                  R"({"configs": [{"pattern": ["relu"], "dtype_configs": [{"input_dtype": "quint9"}]}]})");
            }).place(),
            "backend_config.configs[0].dtype_configs[0].input_dtype");
}

}  // namespace
}  // namespace tsquant::testing
