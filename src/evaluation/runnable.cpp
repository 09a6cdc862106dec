#include "evaluation/runnable.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

#include "evaluation/quantized_operator.h"
#include "graph/node_lists.h"
#include "io/archive_info.h"
#include "run/argument_copies.h"
#include "tsquant/engine.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

void collect(const c10::IValue& value, std::vector<at::Tensor>& tensors) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) tensors.push_back(value.toTensor());
  } else if (value.isTuple()) {
    for (const auto& element : value.toTupleRef().elements()) collect(element, tensors);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) collect(entry.value(), tensors);
  } else if (value.isList()) {
    for (const c10::IValue& element : value.toList()) collect(element, tensors);
  }
}

bool has_quantized_operators(const torch::jit::Block* block) {
  return any_node(block, [](const auto* node) { return is_quantized_operator(node->kind().toQualString()); });
}

bool writes_to_arguments(const torch::jit::Module& module) {
  const auto forward = module.find_method("forward");
  if (!forward) return false;
  auto graph = forward->graph()->copy();
  torch::jit::Inline(*graph);
  return may_write_to_arguments(*graph);
}

/// The interpreter wraps an operator's message into a traceback; people need the message.
std::string operator_message(const std::string& text) {
  const auto at = text.rfind("RuntimeError: ");
  const std::string message = at == std::string::npos ? text : text.substr(at + 14);
  return message.substr(0, message.find('\n'));
}

}  // namespace

Runnable load_runnable(const std::string& path) {
  const auto module = load_quantized(path);
  return {path, module, read_extra_file(path, "tsquant_engine"), writes_to_arguments(module)};
}

c10::IValue Runnable::run(const Sample& sample) {
  at::NoGradGuard no_grad;
  c10::optional<EngineGuard> guard;
  if (!engine.empty() && engine != "tsquant") guard.emplace(engine);
  try {
    const Sample own = writes_to_arguments ? deep_copy(sample) : sample;
    return module.get_method("forward")(own.args, own.kwargs);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kDataset, "the model rejected the sample: " + operator_message(error.what()), path,
                "check shape and dtype of the inputs, --scale and --normalize");
  }
}

at::Tensor first_tensor(const c10::IValue& value) {
  std::vector<at::Tensor> tensors;
  collect(value, tensors);
  if (tensors.empty()) throw Error(ErrorCode::kUnsupportedModel, "the model returns no tensor", "forward");
  return tensors.front().is_quantized() ? tensors.front().dequantize() : tensors.front();
}

std::vector<at::Tensor> all_tensors(const c10::IValue& value) {
  std::vector<at::Tensor> tensors;
  collect(value, tensors);
  return tensors;
}

bool has_quantized_operators(const torch::jit::Module& module) {
  for (const auto& method : module.get_methods()) {
    auto graph = method.graph()->copy();
    torch::jit::Inline(*graph);
    if (has_quantized_operators(graph->block())) return true;
  }
  return false;
}

}  // namespace tsquant
