#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "placement_signature.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

using Lines = std::vector<std::string>;

/// The variants of one network of scripts/make_spelling_traces.py: name -> decisions.
std::map<std::string, Lines> decisions(const std::string& network, const std::vector<int64_t>& shape,
                                       const OpenVINOQuantizerOptions& options = {}) {
  const auto holder = torch::jit::load(data_file("traces/spellings/" + network + ".pt"));
  at::manual_seed(3);
  Sample sample;
  sample.args.emplace_back(at::randn(shape));
  std::map<std::string, Lines> result;
  for (const auto& child : holder.named_children()) {
    Sample own;  // in-place variants may write their input
    own.args.emplace_back(sample.args[0].toTensor().clone());
    result[child.name] = placement_signature(Model::from(child.value), own, options);
  }
  return result;
}

int count(const Lines& lines, const std::string& kind) {
  return static_cast<int>(
      std::count_if(lines.begin(), lines.end(), [&](const auto& line) { return line.rfind(kind, 0) == 0; }));
}

struct Network {
  std::string name;
  std::vector<int64_t> shape;
  int weights, activations;  ///< quantized tensors with the default options
};

std::ostream& operator<<(std::ostream& out, const Network& network) { return out << network.name; }

class Spellings : public ::testing::TestWithParam<Network> {};

/// Every variant of a network, traced and scripted, with both presets, the model type and another device.
TEST_P(Spellings, get_the_same_quantizers) {
  const Network& network = GetParam();
  OpenVINOQuantizerOptions mixed, transformer, sapphire_rapids;
  sapphire_rapids.target_device = TargetDevice::kCpuSpr;
  mixed.preset = QuantizationPreset::kMixed;
  transformer.model_type = ModelType::kTransformer;
  for (const auto& options : {OpenVINOQuantizerOptions{}, mixed, transformer, sapphire_rapids}) {
    const auto variants = decisions(network.name, network.shape, options);
    ASSERT_GT(variants.size(), 1u);
    const auto& [first, expected] = *variants.begin();
    for (const auto& [name, lines] : variants) {
      EXPECT_EQ(lines, expected) << network.name << ": " << first << " and " << name << "\n"
                                 << difference(expected, lines);
    }
    if (options.preset || options.model_type || options.target_device != TargetDevice::kAny) continue;
    EXPECT_EQ(count(expected, "weight"), network.weights) << fmt::format("{}", fmt::join(expected, "\n"));
    EXPECT_EQ(count(expected, "activation"), network.activations) << fmt::format("{}", fmt::join(expected, "\n"));
  }
}

// Weights include the scales of layer and group norms. Where an activation is written out, it is one operator for the
// device only if NNCF has a pattern for it; there is none for GELU.
INSTANTIATE_TEST_SUITE_P(Networks, Spellings,
                         ::testing::Values(Network{"mlp", {6, 8}, 3, 3},                       //
                                           Network{"norms", {2, 3, 8, 8}, 5, 6},               //
                                           Network{"instance_norm", {2, 3, 8, 8}, 2, 2},       //
                                           Network{"hardswish", {2, 3, 8, 8}, 2, 2},           //
                                           Network{"hardsigmoid", {2, 3, 8, 8}, 2, 2},         //
                                           Network{"silu", {2, 3, 8, 8}, 2, 2},                //
                                           Network{"gelu", {2, 3, 8, 8}, 2, 2},                //
                                           Network{"gelu_erf", {2, 3, 8, 8}, 2, 5},            //
                                           Network{"gelu_tanh", {2, 3, 8, 8}, 2, 6},           //
                                           Network{"l2_norm", {2, 3, 8, 8}, 2, 3},             //
                                           Network{"squeeze_excitation", {2, 3, 8, 8}, 2, 4},  //
                                           Network{"attention", {3, 5, 16}, 2, 4},             //
                                           Network{"llama", {3, 5, 16}, 7, 26},                //
                                           Network{"llama_chunks", {3, 5, 16}, 7, 26}));

}  // namespace
}  // namespace tsquant::testing
