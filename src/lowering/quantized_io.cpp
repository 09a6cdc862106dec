#include "lowering/quantized_io.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "graph/insert_op.h"
#include "tsquant/error.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

bool quantize_io(Model& model, const QuantizedIo& io) {
  auto graph = model.graph();
  for (const int64_t index : io.inputs) {
    const auto position = static_cast<size_t>(index) + 1;  // after self
    if (position >= graph->inputs().size()) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("the model has no input {}", index),
                  "input_quantized_indexes", "count the arguments of forward from 0");
    }
    Value* input = graph->inputs()[position];
    torch::jit::WithInsertPoint guard(*graph->block()->nodes().begin());
    Value* real = insert_op(*graph, "aten::dequantize", {input});
    input->replaceAllUsesAfterNodeWith(real->node(), real);
  }
  if (io.output) {
    Node* last = graph->outputs().at(0)->node();
    if (last->kind() != c10::Symbol::fromQualString("aten::dequantize")) {
      throw Error(ErrorCode::kInvalidArgument, "what the model returns is not quantized", "output_quantized_indexes",
                  "leave the output in float");
    }
    graph->return_node()->replaceInput(0, last->input(0));
    if (!last->hasUses()) last->destroy();
  }
  return !io.inputs.empty() || io.output;
}

Sample with_quantized_inputs(const Sample& sample, const QuantizedIo& io) {
  Sample result = sample;
  for (const int64_t index : io.inputs) {
    auto& argument = result.args.at(static_cast<size_t>(index));
    if (!argument.isTensor() || argument.toTensor().is_quantized()) continue;
    argument = at::quantize_per_tensor_dynamic(argument.toTensor().to(at::kFloat), at::kQUInt8, false);
  }
  return result;
}

}  // namespace tsquant
