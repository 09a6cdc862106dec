#include "flows/check_supported.h"

#include <fmt/format.h>

#include <algorithm>

#include "evaluation/quantized_operator.h"
#include "graph/node_lists.h"
#include "numerics/formats.h"
#include "options/words.h"
#include "tsquant/error.h"
#include "tsquant/prepare_pt2e.h"

namespace tsquant {

namespace {

[[noreturn]] void refuse(const QuantizationPoint& point, const std::string& message, const std::string& advice) {
  const std::string port = point.input_port ? fmt::format(" input {}", *point.input_port) : "";
  throw Error(ErrorCode::kInvalidArgument, message, point.node + port, advice);
}

/// The form is one of those that the table of formats names.
void check_format(const QuantizationPoint& point, OutputForm form) {
  const FormatRow& row = row_of(point.spec.format);
  const bool groups = point.spec.group_size > 0;
  const auto& forms = groups ? row.group_forms : row.forms;
  if (std::find(forms.begin(), forms.end(), form) != forms.end()) return;
  std::vector<std::string> names;
  for (const OutputForm other : forms) names.emplace_back(word_of(words<OutputForm>(), other));
  refuse(point,
         fmt::format("{}{} cannot be written in the {} form", row.info.name,
                     groups ? fmt::format(" in groups of {}", point.spec.group_size) : "",
                     word_of(words<OutputForm>(), form)),
         names.empty() ? "no form holds it; choose another format or group size"
                       : fmt::format("use the {} form", fmt::join(names, " or ")));
}

void check_dtype(const QuantizationPoint& point, OutputForm form) {
  const auto& dtype = point.spec.dtype;
  if (!dtype || (*dtype == c10::kHalf && point.kind == PointKind::kWeight)) return;
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
  if (is_prepared(model.module())) {
    throw Error(ErrorCode::kUnsupportedModel, "the model is already prepared: it has observers", path,
                "convert it (convert_pt2e, fx::convert_fx or `tsquant convert`), or give the float model that it was "
                "made from");
  }
  for (const auto* node : all_nodes(model.graph()->block())) {
    if (!is_quantized_operator(node->kind().toQualString())) continue;
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("the model is already quantized: it calls {}", node->kind().toQualString()), path,
                "give the float model that it was made from");
  }
}

void check_supported(const GraphView& view, const Annotations& annotations, OutputForm form) {
  for (const auto& point : annotations.points) {
    if (point.spec.formula == QParamsFormula::kNncfCompression) {
      refuse(point, "the quantizer compresses weights alone", "use compress_pt2e, or a quantizer without weights_only");
    }
    check_format(point, form);
    check_dtype(point, form);
    check_axis(point, view);
  }
}

}  // namespace tsquant
