#include "flows/check_supported.h"

#include <fmt/format.h>

#include "evaluation/runnable.h"
#include "graph/node_lists.h"
#include "options/words.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

[[noreturn]] void refuse(const QuantizationPoint& point, const std::string& message, const std::string& advice) {
  const std::string port = point.input_port ? fmt::format(" input {}", *point.input_port) : "";
  throw Error(ErrorCode::kInvalidArgument, message, point.node + port, advice);
}

void check_dtype(const QuantizationPoint& point, OutputForm form) {
  const auto& dtype = point.spec.dtype;
  if (!dtype) return;
  for (const auto byte : {c10::kChar, c10::kByte, c10::kQInt8, c10::kQUInt8}) {
    if (*dtype == byte) return;
  }
  refuse(point,
         fmt::format("codes of type {} cannot be written in the {} form", toString(*dtype),
                     word_of(words<OutputForm>(), form)),
         "use an 8-bit signed or unsigned integer");
}

void check_axis(const QuantizationPoint& point, const GraphView& view) {
  if (!point.spec.per_channel) return;
  const ViewNode* node = view.find(point.node);
  const ViewEdge* edge = node && point.input_port ? view.input_edge(*node, *point.input_port) : nullptr;
  if (!node || (point.input_port && !edge)) return;
  const TensorInfo& info = edge ? edge->info : node->info;
  const auto rank = static_cast<int64_t>(info.shape.size());
  if (!info.known || (point.spec.ch_axis >= 0 && point.spec.ch_axis < rank)) return;
  refuse(point, fmt::format("ch_axis is {}, but the tensor has {} dimensions", point.spec.ch_axis, rank),
         "give an existing axis, or quantize per tensor");
}

}  // namespace

void require_float(const Model& model, const std::string& path) {
  for (const auto* node : all_nodes(model.graph()->block())) {
    if (!is_quantized_operator(*node)) continue;
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("the model is already quantized: it calls {}", node->kind().toQualString()), path,
                "give the float model that it was made from");
  }
}

void check_supported(const GraphView& view, const Annotations& annotations, OutputForm form) {
  for (const auto& point : annotations.points) {
    if (point.spec.destination_type && form != OutputForm::kDecomposed) {
      refuse(point, fmt::format("fp8 quantizers cannot be written in the {} form", word_of(words<OutputForm>(), form)),
             "use the decomposed form");
    }
    check_dtype(point, form);
    check_axis(point, view);
  }
}

}  // namespace tsquant
