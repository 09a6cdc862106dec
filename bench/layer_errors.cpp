// How far are the layers of compressed language models from those of the float model, on a text? For
// every linear layer tr(D H D^T) / tr(W H W^T), with H from the layer's inputs in the float model. Prints for each file
// the mean and the largest one over layers of fewer than 8 bits, and the sum over all layers.
// usage: bench_layer_errors FLOAT.pt DATA.pt SAMPLES COMPRESSED.pt...
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstdlib>
#include <exception>
#include <vector>

#include "compression/input_moments.h"
#include "compression/layer_error.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/compressed/decompression_chain.h"
#include "lowering/compressed/fuse_decompression.h"
#include "numerics/formats.h"
#include "run/tap_runner.h"
#include "tsquant/data_files.h"
#include "tsquant/error.h"
#include "tsquant/model.h"

namespace {

using namespace tsquant;

constexpr int64_t kWindow = 128;  ///< tokens of a sample, where the file holds one stream

struct Layer {
  at::Tensor weight, hessian;
};

std::vector<torch::jit::Node*> linear_layers(const Model& model) {
  std::vector<torch::jit::Node*> layers;
  for (auto* node : all_nodes(model.graph()->block())) {
    if (node->kind() == c10::aten::linear) layers.push_back(node);
  }
  return layers;
}

std::vector<Layer> float_layers(const Model& model, const Dataset& data, int64_t samples) {
  const auto nodes = linear_layers(model);
  std::vector<TapPoint> taps;
  for (auto* node : nodes) taps.push_back({node->input(0), {node, 0}});
  std::vector<InputMoments> moments(nodes.size());
  const TapRunner runner(model, taps);
  for (int64_t i = 0; i < data.count(samples); ++i) {
    runner.run(data.get(i), [&](size_t tap, const at::Tensor& x) { moments[tap].add(x); });
  }
  std::vector<Layer> layers;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const auto weight = param_of(model, nodes[i]->input(1));
    layers.push_back({weight ? weight->tensor : at::Tensor(), moments[i].hessian()});
  }
  return layers;
}

void print_errors(const std::string& path, const std::vector<Layer>& layers) {
  Model model = Model::load(path);
  unfuse_decompression(model);
  const auto nodes = linear_layers(model);
  if (nodes.size() != layers.size()) throw Error(ErrorCode::kModelLoad, "the layers are others", path);
  double sum = 0, largest = 0, total = 0;
  int64_t count = 0;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const auto found = read_decompression(model, nodes[i]->input(1));
    if (!found || !layers[i].weight.defined()) continue;
    const double error = error_by_hessian(layers[i].weight, decompressed_value(found->weight), layers[i].hessian);
    total += error;
    if (format_info(found->weight.format).bits == 8) continue;
    sum += error;
    largest = std::max(largest, error);
    ++count;
  }
  if (count == 0) throw Error(ErrorCode::kModelLoad, "no linear layer has fewer than 8 bits", path);
  fmt::print("{}: mean {:.6f}, largest {:.6f} of {} layers; sum of all layers {:.6f}\n", path,
             sum / static_cast<double>(count), largest, count, total);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    fmt::print(stderr, "usage: bench_layer_errors FLOAT.pt DATA.pt SAMPLES COMPRESSED.pt...\n");
    return 1;
  }
  try {
    at::set_num_threads(1);
    DataOptions options;
    options.inputs = {"tokens"};
    if (load_data(argv[2], options).inputs.front().dim() == 1) options.window = kWindow;
    const auto layers = float_layers(Model::load(argv[1]), load_data(argv[2], options).dataset, std::atoll(argv[3]));
    for (int i = 4; i < argc; ++i) print_errors(argv[i], layers);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
  return 0;
}
