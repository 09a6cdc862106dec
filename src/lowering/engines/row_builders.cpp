#include "lowering/engines/row_builders.h"

namespace tsquant {

EngineRow function(const char* op, const char* kernel, EngineRow::Arguments arguments, ResultScale result) {
  EngineRow row;
  row.op = op;
  row.kernel = kernel;
  row.arguments = arguments;
  row.result = result;
  return row;
}

void append_params(LoweringContext& context, torch::jit::Node* node, const CodeParams& params, Values& inputs) {
  inputs.push_back(context.constant(node, params.scale));
  inputs.push_back(context.constant(node, params.zero_point));
}

Values concatenation(LoweringContext& context, torch::jit::Node* node, Values codes, const FusedOutput& output) {
  torch::jit::Node* parts = context.graph().createList(c10::TensorType::get(), codes);
  parts->insertBefore(node);
  Values inputs = {parts->output(), node->input(1)};
  append_params(context, node, output.params, inputs);
  return inputs;
}

Values same_arguments(LoweringContext&, torch::jit::Node* node, Values codes, const FusedOutput&) {
  codes.insert(codes.end(), node->inputs().begin() + 1, node->inputs().end());
  return codes;
}

c10::IValue optional_tensor(const at::Tensor& t) { return t.defined() ? c10::IValue(t) : c10::IValue(); }

}  // namespace tsquant
