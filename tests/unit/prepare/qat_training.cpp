#include "unit/prepare/qat_training.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/optim.h>

#include "graph/flatten_calls.h"
#include "graph/module_calls.h"
#include "graph/node_lists.h"

namespace tsquant::testing {
namespace {

constexpr double kLearningRate = 0.05;

/// Operators one by one, as in Python: compiled graphs may compute gradients in another order.
class OneByOne {
 public:
  OneByOne() { torch::jit::setGraphExecutorOptimize(false); }
  ~OneByOne() { torch::jit::setGraphExecutorOptimize(before_); }
  OneByOne(const OneByOne&) = delete;
  OneByOne& operator=(const OneByOne&) = delete;

 private:
  bool before_ = torch::jit::getGraphExecutorOptimize();
};

bool is_fake_quantize(const std::string& path) {
  const std::string name = path.substr(path.rfind('.') + 1);
  return name.rfind("activation_post_process_", 0) == 0 || name == "weight_fake_quant";
}

/// The forward of a module that also returns what its fake quantizes return.
class TappedForward {
 public:
  explicit TappedForward(const torch::jit::Module& module) : module_(module) {
    const auto graph = module.get_method("forward").graph()->copy();
    for (const auto& call : module_calls(*graph, "conv_bn_")) {
      const auto block = module.attr(call.attribute).toModule().get_method("forward");
      torch::jit::inlineCallTo(call.node, &torch::jit::toGraphFunction(block.function()), block.graph().get());
    }
    for (auto* call : nodes_of_kind(graph->block(), {"prim::CallMethod"})) {
      const std::string path = receiver_path(*graph, call);
      if (!is_fake_quantize(path)) continue;
      names_.push_back(path + "#" + std::to_string(calls_[path]++));
      graph->registerOutput(call->output());
    }
    executor_ = torch::jit::GraphExecutor(graph, "tapped_forward");
  }

  at::Tensor run(const at::Tensor& x, NamedTensors& fake_quantized) {
    torch::jit::Stack stack{module_._ivalue(), x};
    executor_.run(stack);
    for (size_t i = 0; i < names_.size(); ++i) {
      fake_quantized[names_[i]] = stack.at(i + 1).toTensor().detach().clone();
    }
    return stack.at(0).toTensor();
  }

 private:
  torch::jit::Module module_;
  std::vector<std::string> names_;
  std::map<std::string, int> calls_;
  torch::jit::GraphExecutor executor_;
};

}  // namespace

std::vector<TrainingStep> train_steps(torch::jit::Module& module, const std::vector<at::Tensor>& batches) {
  const OneByOne plain;
  std::vector<at::Tensor> parameters;
  for (const auto& parameter : module.named_parameters()) {
    EXPECT_TRUE(parameter.value.is_leaf()) << parameter.name;
    if (parameter.value.requires_grad()) parameters.push_back(parameter.value);
  }
  torch::optim::SGD optimizer(parameters, kLearningRate);
  TappedForward forward(module);
  std::vector<TrainingStep> steps;
  for (const auto& batch : batches) {
    TrainingStep step;
    optimizer.zero_grad();
    const at::Tensor out = forward.run(batch, step.fake_quantized);
    const at::Tensor loss = (out * at::linspace(-1, 1, out.size(1))).pow(2).mean();
    loss.backward();
    step.out = out.detach().clone();
    step.loss = loss.item<double>();
    for (const auto& parameter : module.named_parameters()) {
      if (parameter.value.grad().defined()) step.gradients[parameter.name] = parameter.value.grad().clone();
    }
    for (const auto& child : module.named_modules()) {
      if (!is_fake_quantize(child.name)) continue;
      step.scales[child.name] = child.value.attr("scale").toTensor().detach().clone();
      step.zero_points[child.name] = child.value.attr("zero_point").toTensor().detach().clone();
    }
    optimizer.step();
    steps.push_back(std::move(step));
  }
  return steps;
}

}  // namespace tsquant::testing
