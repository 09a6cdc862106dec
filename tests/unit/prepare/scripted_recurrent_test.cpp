// Recurrent networks that were compiled from source (scripts/make_recurrent_models.py) become what traces of them
// become.
#include <gtest/gtest.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/openvino_quantizer.h>
#include <tsquant/tsquant.h>

#include <algorithm>
#include <stdexcept>

#include "graph/node_lists.h"
#include "passes/rewrite_runner.h"
#include "support/support.h"

namespace tsquant::testing::scripted_recurrent {
namespace {

std::string file(const std::string& name) { return data_file("traces/recurrent/" + name + ".pt"); }

Sample sample() {
  at::manual_seed(2);
  return {{at::randn({5, 3, 6})}, {}};
}

torch::jit::Module prepared(const std::string& name, const Sample& example = sample()) {
  return fx::prepare_fx(Model::load(file(name)), fx::QConfigMapping().set_global(fx::default_dynamic_qconfig()),
                        example);
}

size_t count(const QuantizedModel& result, const std::vector<std::string>& kinds) {
  return nodes_of_kind(result.model.graph()->block(), kinds).size();
}

std::vector<std::string> quantized_weights(const QuantizedModel& result) {
  std::vector<std::string> names;
  for (const auto& record : result.report.quantizers) {
    if (record.kind == "weight") names.push_back(record.node);
  }
  std::sort(names.begin(), names.end());
  return names;
}

const NodeRecord& record_of(const QuantizedModel& result, const std::string& type) {
  const auto& nodes = result.report.nodes;
  const auto found = std::find_if(nodes.begin(), nodes.end(), [&](const auto& node) { return node.type == type; });
  if (found == nodes.end()) throw std::runtime_error("no operator " + type);
  return *found;
}

at::Tensor run(const QuantizedModel& result, const Sample& input = sample()) {
  return result.model.run(input).toTensor();
}

double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  return ((actual - expected).norm() / expected.norm()).item<double>();
}

struct Network {
  const char* name;
  const char* traced;
  std::vector<std::string> kernels;
  size_t weights;  ///< matrices that are quantized
};

class Scripted : public ::testing::TestWithParam<Network> {};

TEST_P(Scripted, LayersRunInTheKernelsAsTracedOnes) {
  const Network& network = GetParam();
  const auto result = fx::convert_fx(prepared(network.name)), traced = fx::convert_fx(prepared(network.traced));
  EXPECT_EQ(count(result, network.kernels), network.kernels.size());
  EXPECT_EQ(count(result, {"aten::lstm", "aten::gru", "aten::lstm_cell", "aten::gru_cell"}), 0U);
  EXPECT_EQ(quantized_weights(result).size(), network.weights);
  EXPECT_TRUE(at::equal(run(result), run(traced)));
  const std::string path = temp_dir() + "/scripted.pt";
  result.save(path);  // loads it and compares
  EXPECT_LT(relative_error(run(result), Model::load(file(network.name)).run(sample()).toTensor()), 0.05);
}

TEST_P(Scripted, ReferenceFormsAreEqual) {
  const Network& network = GetParam();
  const auto result = fx::convert_to_reference_fx(prepared(network.name));
  const auto traced = fx::convert_to_reference_fx(prepared(network.traced));
  EXPECT_TRUE(at::equal(run(result), run(traced)));
  EXPECT_FALSE(at::equal(run(result), Model::load(file(network.name)).run(sample()).toTensor())) << "still float";
}

INSTANTIATE_TEST_SUITE_P(Networks, Scripted,
                         ::testing::Values(Network{"lstm", "lstm_traced", {"tsquant::lstm"}, 9},
                                           Network{"lstm_frozen", "lstm_traced_frozen", {"tsquant::lstm"}, 9},
                                           Network{"gru", "gru_traced", {"tsquant::gru"}, 2},
                                           Network{"gru_moved", "gru_traced", {"tsquant::gru"}, 2}),
                         [](const auto& info) { return info.param.name; });

TEST(ScriptedLayers, SequencesWithoutABatchRunToo) {
  const auto result = fx::convert_fx(prepared("lstm"));
  const at::Tensor x = sample().args[0].toTensor();
  const at::Tensor all = run(result, {{x.narrow(0, 0, 1)}, {}}), alone = run(result, {{x[0]}, {}});
  EXPECT_TRUE(at::allclose(alone, all[0], 1e-6, 1e-6));
}

TEST(ScriptedLayers, FilesHoldTheWeightsOnce) {
  const std::string folder = temp_dir();
  fx::convert_fx(prepared("lstm")).save(folder + "/scripted.pt");
  fx::convert_fx(prepared("lstm_traced")).save(folder + "/traced.pt");
  const auto tensors = [&](const std::string& name) {
    int64_t bytes = 0;
    const auto module = torch::jit::load(folder + "/" + name);
    for (const auto& child : module.modules()) {
      for (const auto& attribute : child.named_attributes(/*recurse=*/false)) {
        if (attribute.value.isTensorList()) EXPECT_EQ(attribute.value.toTensorVector().size(), 0U) << attribute.name;
        if (attribute.value.isTensor()) bytes += static_cast<int64_t>(attribute.value.toTensor().nbytes());
      }
    }
    return bytes;
  };
  EXPECT_EQ(tensors("scripted.pt"), tensors("traced.pt"));
}

TEST(ScriptedLayers, MappingsNameThemAsTracedOnes) {
  fx::QConfigMapping by_class, by_name;
  by_class.set_object_type("torch.nn.LSTM", fx::default_dynamic_qconfig());
  by_name.set_module_name("rnn", fx::default_dynamic_qconfig());
  for (const auto& mapping : {by_class, by_name}) {
    for (const char* name : {"lstm", "lstm_traced"}) {
      const auto result = fx::convert_fx(fx::prepare_fx(Model::load(file(name)), mapping, sample()));
      EXPECT_EQ(quantized_weights(result), std::vector<std::string>(8, "rnn/lstm/0")) << name;
    }
  }
}

TEST(ScriptedLayers, EitherBranchIsQuantized) {
  const Sample first{{sample().args[0], false}, {}}, second{{sample().args[0], true}, {}};
  const auto result = fx::convert_fx(prepared("branch", first));
  EXPECT_EQ(quantized_weights(result).size(), 4U);
  const Model network = Model::load(file("branch"));
  for (const Sample& input : {first, second}) {
    const at::Tensor expected = network.run(input).toTensor(), actual = run(result, input);
    EXPECT_LT(relative_error(actual, expected), 0.05);
    EXPECT_FALSE(at::equal(actual, expected)) << "still float";
  }
  EXPECT_EQ(count(result, {"tsquant::lstm"}), 1U);
}

TEST(ScriptedLayers, ProjectionsStayLibTorchsOperator) {
  for (const char* name : {"projected", "projected_traced"}) {
    const auto result = fx::convert_fx(prepared(name));
    EXPECT_EQ(count(result, {"aten::lstm"}), 1U);
    EXPECT_EQ(record_of(result, "lstm").kernel, "Q/DQ: the kernel has no projections (proj_size)");
    EXPECT_LT(relative_error(run(result), Model::load(file(name)).run(sample()).toTensor()), 0.05);
  }
}

TEST(ScriptedLayers, PackedSequencesRunInTheKernels) {
  const Sample input{{sample().args[0], at::tensor({3, 5, 2}, at::kLong)}, {}};
  const auto observed = prepared("packed", input);
  const auto result = fx::convert_fx(observed), traced = fx::convert_fx(prepared("packed_traced", input));
  EXPECT_EQ(quantized_weights(result), quantized_weights(traced));
  EXPECT_EQ(quantized_weights(result).size(), 6U);
  EXPECT_EQ(count(result, {"tsquant::lstm", "tsquant::gru"}), 2U);
  EXPECT_TRUE(at::equal(run(result, input), run(traced, input)));
  result.save(temp_dir() + "/packed.pt");  // loads it and compares
  const at::Tensor expected = run(fx::convert_to_reference_fx(observed), input);
  EXPECT_TRUE(at::allclose(run(result, input), expected, 1e-5, 1e-5));
  EXPECT_LT(relative_error(expected, Model::load(file("packed")).run(input).toTensor()), 0.05);
}

TEST(ScriptedLayers, OpenVinoPlacesWhatItPlacesInTraces) {
  std::vector<size_t> points;
  for (const char* name : {"lstm", "lstm_traced"}) {
    Model model = Model::load(file(name));
    run_passes(model);
    points.push_back(OpenVINOQuantizer().annotate(GraphView(model)).points.size());
  }
  EXPECT_EQ(points[0], points[1]);
  EXPECT_GT(points[0], 8U);
}

// A cell in a loop: its weights are stored in codes, and with the kernels they become floats once.
TEST(ScriptedCells, RunInTheKernelsInsideOfALoop) {
  const auto observed = prepared("cells");
  const auto lowered = fx::convert_fx(observed), reference = fx::convert_to_reference_fx(observed);
  EXPECT_EQ(quantized_weights(lowered),
            (std::vector<std::string>{"gru/gru_cell/0", "gru/gru_cell/0", "lstm/lstm_cell/0", "lstm/lstm_cell/0",
                                      "rnn/rnn_tanh_cell/0", "rnn/rnn_tanh_cell/0"}));
  EXPECT_EQ(count(lowered, {"tsquant::lstm_cell", "tsquant::gru_cell"}), 2U);
  EXPECT_EQ(count(lowered, {"aten::lstm_cell", "aten::gru_cell"}), 0U);
  EXPECT_EQ(record_of(lowered, "rnn_tanh_cell").kernel, "Q/DQ: the kernels are those of LSTM and GRU");
  lowered.save(temp_dir() + "/cells.pt");  // loads it and compares
  const at::Tensor expected = run(reference), network = Model::load(file("cells")).run(sample()).toTensor();
  EXPECT_TRUE(at::allclose(run(lowered), expected, 1e-5, 1e-5));
  EXPECT_LT(relative_error(expected, network), 0.05);
  EXPECT_FALSE(at::allclose(expected, network, 1e-5, 1e-5)) << "nothing was quantized";
}

}  // namespace
}  // namespace tsquant::testing::scripted_recurrent
