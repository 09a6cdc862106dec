#include "flows/build_report.h"

#include <fmt/format.h>

#include <set>

#include "flows/quantized_value_flow.h"
#include "graph/module_calls.h"
#include "graph/op_table.h"

namespace tsquant {

namespace {

template <typename T>
std::vector<T> numbers_of(const at::Tensor& tensor) {
  const auto values = tensor.to(c10::CppTypeToScalarType<T>::value).contiguous();
  return {values.template data_ptr<T>(), values.template data_ptr<T>() + values.numel()};
}

std::string code_type(const QParams& q) {
  if (!format_info(q.format).integer) return to_string(q.format);
  return q.dtype == c10::kHalf ? "float16" : q.dtype == c10::kChar ? "qint8" : "quint8";
}

std::set<std::string> quantized_names(const Annotations& annotations) {
  std::set<std::string> names;
  for (const auto& point : annotations.points) names.insert(point.quantized_nodes.begin(), point.quantized_nodes.end());
  return names;
}

/// Decides for each operator what to tell about it.
class Describer {
 public:
  Describer(const GraphView& view, const Annotations& annotations, const std::map<std::string, Refusal>& losses)
      : view_(view), losses_(losses), names_(quantized_names(annotations)), flow_(view, annotations) {
    for (const auto& refusal : annotations.refusals) refusals_.emplace(refusal.node, &refusal);
  }

  /// To be called in execution order.
  NodeRecord describe(const ViewNode& node) {
    NodeRecord record;
    record.name = node.name;
    record.fx_name = node.fx_name;
    record.type = node.type;
    decide(node, record);
    if (record.code == "fused") names_.insert(node.name);
    return record;
  }

 private:
  static void set(NodeRecord& record, const std::string& code, const std::string& reason) {
    record.code = code;
    record.reason = reason;
  }

  void decide(const ViewNode& node, NodeRecord& record) const {
    const auto loss = losses_.find(node.name);
    if (loss != losses_.end()) return set(record, loss->second.code, loss->second.reason);
    record.quantized = names_.count(node.name) > 0;
    if (record.quantized) return set(record, "quantized", "reads quantized tensors");
    const Movement movement = flow_.movement(node);
    if (movement == Movement::kCodes) {
      return set(record, "passes_codes", "moves quantized values without computing on them");
    }
    const auto refusal = refusals_.find(node.name);
    // Branches, loops and tuples are no operators that a table could know; elements of a list stand for their list.
    if (node.node && node.node->kind().is_prim() && node.type != "__getitem__" && !is_opaque_call(node.node)) {
      return set(record, "control_flow", "hands tensors on between blocks and computes nothing");
    }
    if (refusal != refusals_.end()) {
      // What it was to run inside may have lost its quantizers since: in calibration, or to accuracy control.
      const bool alone = refusal->second->code == "fused" && !follows_quantized(node);
      if (alone) return set(record, "fused_with_float", "runs inside an operator that stays in float");
      return set(record, refusal->second->code, refusal->second->reason);
    }
    if (is_fused(node)) return set(record, "fused", "part of the quantized operator before it");
    decide_float(node, movement, record);
  }

  void decide_float(const ViewNode& node, Movement movement, NodeRecord& record) const {
    if (movement == Movement::kFloat) return set(record, "float_values", "moves values that are not quantized");
    if (movement == Movement::kMixed) return set(record, "mixed_scales", "moves quantized values of different scales");
    if (node.info.known && !node.info.is_floating()) {
      return set(record, "not_floating", "its result holds no floating-point numbers");
    }
    if (node.op->default_trait == QuantizationTrait::kNonQuantizable) {
      return set(record, "not_quantizable", "the hardware table has no integer form of this operator");
    }
    set(record, "not_annotated", "the quantizer asked for no quantized tensor here");
  }

  /// Whether it reads, without a quantizer between them, from a quantized operator or from what runs inside one.
  bool follows_quantized(const ViewNode& node) const {
    return std::any_of(node.in_edges.begin(), node.in_edges.end(), [&](int64_t id) {
      return !flow_.is_quantized(id) && names_.count(view_.node(view_.edge(id).from).name) > 0;
    });
  }

  /// An activation between a quantized operator and a quantizer is computed before the result is rounded to codes.
  bool is_fused(const ViewNode& node) const {
    static const std::set<std::string> kActivations{
        "relu", "relu_", "relu6",     "hardtanh",   "hardtanh_",   "leaky_relu", "elu",  "elu_",  "gelu",
        "silu", "silu_", "hardswish", "hardswish_", "hardsigmoid", "sigmoid",    "tanh", "prelu", "selu"};
    if (!kActivations.count(node.type) || node.in_edges.empty() || node.out_edges.empty()) return false;
    if (!names_.count(view_.node(view_.edge(node.in_edges.front()).from).name)) return false;
    if (flow_.is_quantized(node.in_edges.front())) return false;
    return std::all_of(node.out_edges.begin(), node.out_edges.end(),
                       [&](int64_t edge) { return flow_.is_quantized(edge); });
  }

  const GraphView& view_;
  const std::map<std::string, Refusal>& losses_;
  std::map<std::string, const Refusal*> refusals_;
  std::set<std::string> names_;  ///< quantized operators, and those so far that run inside one
  QuantizedValueFlow flow_;
};

}  // namespace

void describe_nodes(Report& report, const GraphView& view, const Annotations& annotations,
                    const std::map<std::string, Refusal>& losses) {
  Describer describer(view, annotations, losses);
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator) continue;
    // The value of a branch that ends in an exception.
    if (node.node && node.node->kind() == c10::prim::Uninitialized) continue;
    report.nodes.push_back(describer.describe(node));
  }
}

void describe_quantizers(Report& report, const Annotations& annotations, const QParamTable& qparams,
                         const StatTable& stats) {
  for (const auto& point : annotations.points) {
    const auto found = qparams.find(point.id);
    if (found == qparams.end()) continue;
    const QParams& q = found->second;
    QuantizerRecord record;
    record.id = point.id;
    record.kind = point.kind == PointKind::kWeight ? "weight" : "activation";
    record.node = point.node;
    record.input_port = point.input_port.value_or(-1);
    record.dtype = code_type(q);
    record.quant_min = q.quant_min;
    record.quant_max = q.quant_max;
    record.scale = numbers_of<double>(q.scale);
    if (has_float_zero_points(q)) {
      record.float_zero_point = numbers_of<double>(q.zero_point);
    } else {
      record.zero_point = numbers_of<int64_t>(q.zero_point);
    }
    if (q.range.min.defined() && q.range.min.numel() > 0) {
      record.min = q.range.min.min().item<double>();
      record.max = q.range.max.max().item<double>();
    }
    const auto observer = stats.observers.find(point.id);
    if (observer != stats.observers.end()) record.non_finite = observer->second->non_finite();
    report.quantizers.push_back(std::move(record));
  }
}

std::string grouped_reasons(const Report& report) {
  std::map<std::string, int> counts;
  for (const auto& node : report.nodes) {
    if (!node.quantized) ++counts[fmt::format("{} ({}: {})", node.type, node.code, node.reason)];
  }
  std::vector<std::string> lines;
  for (const auto& [reason, count] : counts) lines.push_back(fmt::format("{} x {}", count, reason));
  return fmt::format("{}", fmt::join(lines, "; "));
}

}  // namespace tsquant
