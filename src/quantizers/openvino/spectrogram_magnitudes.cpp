#include "quantizers/openvino/spectrogram_magnitudes.h"

#include <algorithm>
#include <set>
#include <string>

#include "graph/op_table.h"
#include "graph/params.h"

namespace tsquant::openvino {

namespace {

bool is_a(const ViewNode& node, const char* metatype) {
  return node.kind == NodeKind::kOperator && node.op->metatype == metatype;
}

bool is_one_of(const ViewNode& node, const std::set<std::string>& metatypes) {
  return node.kind == NodeKind::kOperator && metatypes.count(node.op->metatype) > 0;
}

/// Operators that pick, order or convert values.
bool moves_values(const ViewNode& node) {
  static const std::set<std::string> metatypes{"PTNoopMetatype",  "PTTransposeMetatype", "PTGatherMetatype",
                                               "PTSplitMetatype", "PTSqueezeMetatype",   "PTReshapeMetatype"};
  return is_one_of(node, metatypes);
}

bool is_transform(const GraphView& view, const ViewNode& node) {
  static const std::set<std::string> metatypes{"PTConv1dMetatype", "PTDepthwiseConv1dSubtype", "PTConv2dMetatype",
                                               "PTDepthwiseConv2dSubtype", "PTLinearMetatype"};
  const ViewEdge* weight = is_one_of(node, metatypes) ? view.input_edge(node, 1) : nullptr;
  return weight && view.node(weight->from).kind == NodeKind::kParameter;
}

bool equals(const Model& model, const torch::jit::Value* value, double number) {
  const auto constant = constant_of(model, value);
  if (!constant) return false;
  if (constant->isTensor()) {
    return constant->toTensor().numel() == 1 && constant->toTensor().item<double>() == number;
  }
  return constant->isScalar() && constant->toScalar().to<double>() == number;
}

/// What is squared by this node; null when it is no square.
const ViewNode* squared(const GraphView& view, const ViewNode& node) {
  const ViewEdge* base = node.in_edges.empty() ? nullptr : view.input_edge(node, 0);
  if (!base || !node.node) return nullptr;
  if (node.type == "square") return &view.node(base->from);
  if (is_a(node, "PTPowerMetatype")) {
    const bool two = node.node->inputs().size() > 1 && equals(view.model(), node.node->input(1), 2);
    return two ? &view.node(base->from) : nullptr;
  }
  const ViewEdge* other = is_a(node, "PTMulMetatype") ? view.input_edge(node, 1) : nullptr;
  return other && other->value == base->value ? &view.node(base->from) : nullptr;
}

class Finder {
 public:
  explicit Finder(const GraphView& view) : view_(view) {}

  std::vector<Spectrum> run() {
    std::vector<Spectrum> spectra;
    for (const auto& node : view_.nodes()) {
      members_.clear();
      if (!is_energy(node)) continue;
      Spectrum spectrum;
      spectrum.magnitude = follow_to_root(node).id;
      spectrum.nodes.assign(members_.begin(), members_.end());
      spectra.push_back(std::move(spectrum));
    }
    return spectra;
  }

 private:
  /// Whether the node adds the squares of two parts of transforms; collects what it is made of.
  bool is_energy(const ViewNode& node) {
    const bool direct = node.type == "hypot";
    if ((!direct && !is_a(node, "PTAddMetatype")) || node.in_edges.size() != 2) return false;
    for (const int64_t edge : node.in_edges) {
      const ViewNode* part = &view_.node(view_.edge(edge).from);
      if (!direct) {
        members_.insert(part->id);
        part = squared(view_, *part);
      }
      if (!part || !comes_from_transform(*part)) return false;
    }
    members_.insert(node.id);
    return true;
  }

  bool comes_from_transform(const ViewNode& part) {
    const ViewNode* node = &part;
    for (;;) {
      members_.insert(node->id);
      if (is_transform(view_, *node)) return true;
      if (!moves_values(*node)) return false;
      const ViewEdge* input = view_.input_edge(*node, 0);
      if (!input) return false;
      node = &view_.node(input->from);
    }
  }

  /// A lower bound or a small summand may stand before the root.
  const ViewNode& follow_to_root(const ViewNode& energy) {
    const ViewNode* node = &energy;
    std::vector<int64_t> passed;
    while (node->out_edges.size() == 1) {
      node = &view_.node(view_.edge(node->out_edges.front()).to);
      passed.push_back(node->id);
      if (is_a(*node, "PTSqrtMetatype")) {
        members_.insert(passed.begin(), passed.end());
        return *node;
      }
      const bool keeps = node->type == "clamp" || node->type == "clamp_min" ||
                         (is_a(*node, "PTAddMetatype") && has_one_computed_input(*node));
      if (!keeps) break;
    }
    return energy;
  }

  bool has_one_computed_input(const ViewNode& node) const {
    return std::count_if(node.in_edges.begin(), node.in_edges.end(), [&](int64_t edge) {
             return view_.node(view_.edge(edge).from).kind != NodeKind::kParameter;
           }) == 1;
  }

  const GraphView& view_;
  std::set<int64_t> members_;
};

/// Whether the point quantizes the very tensor that `node` computes.
bool stands_behind(const GraphView& view, const QuantizationPoint& point, const ViewNode& node) {
  if (point.kind != PointKind::kActivation) return false;
  if (!point.input_port) return point.node == node.name;
  const ViewNode* reader = view.find(point.node);
  const ViewEdge* edge = reader ? view.input_edge(*reader, *point.input_port) : nullptr;
  return edge && edge->from == node.id;
}

/// Whether dimension 1 of the magnitude holds the frequencies: convolutions put them there, and nothing has moved them.
/// Samples that take another branch leave shapes unknown; data without a batch dimension is then not noticed.
bool has_frequencies_along_1(const GraphView& view, const Spectrum& spectrum) {
  static const std::set<std::string> others{"PTTransposeMetatype", "PTReshapeMetatype", "PTSqueezeMetatype",
                                            "PTLinearMetatype"};
  const auto& info = view.node(spectrum.magnitude).info;
  if (info.known && info.shape.size() < 3) return false;
  return std::none_of(spectrum.nodes.begin(), spectrum.nodes.end(),
                      [&](int64_t id) { return is_one_of(view.node(id), others) || view.node(id).type == "select"; });
}

bool is_in_group(const Annotations& annotations, int64_t point) {
  const auto& groups = annotations.unified_scale_groups;
  return std::any_of(groups.begin(), groups.end(),
                     [&](const auto& group) { return std::find(group.begin(), group.end(), point) != group.end(); });
}

}  // namespace

std::vector<Spectrum> find_spectra(const GraphView& view) { return Finder(view).run(); }

void describe_spectra(const GraphView& view, const std::vector<Spectrum>& spectra, const std::vector<bool>& ignored,
                      const OpenVINOQuantizerOptions& options, Annotations& annotations) {
  const bool per_channel = options.activations_quantization_params.per_channel.value_or(true) && !options.mode;
  for (const auto& spectrum : spectra) {
    for (auto& refusal : annotations.refusals) {
      const ViewNode* node = view.find(refusal.node);
      if (!node || refusal.code != "ignored" || ignored[node->id]) continue;
      if (std::count(spectrum.nodes.begin(), spectrum.nodes.end(), node->id) == 0) continue;
      refusal.code = "spectrum";
      refusal.reason = "computes a spectrum, whose magnitudes span more powers of ten than 8 bits hold";
    }
    const ViewNode& magnitude = view.node(spectrum.magnitude);
    if (!per_channel || !has_frequencies_along_1(view, spectrum)) continue;
    for (auto& point : annotations.points) {
      if (!stands_behind(view, point, magnitude) || is_in_group(annotations, point.id)) continue;
      point.spec.per_channel = true;
      point.spec.ch_axis = 1;
    }
  }
}

}  // namespace tsquant::openvino
