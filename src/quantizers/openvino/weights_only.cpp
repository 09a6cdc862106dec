#include "quantizers/openvino/weights_only.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "graph/carried_state.h"
#include "graph/op_table.h"
#include "graph/params.h"
#include "graph/weighted_layer.h"
#include "quantizers/openvino/compression_modes.h"
#include "tsquant/error.h"

namespace tsquant::openvino {

namespace {

enum class WeightKind { kNone, kMatMul, kEmbedding, kConvolution, kRecurrent };

bool is_convolution(LayerKind kind) {
  return kind == LayerKind::kConvolution || kind == LayerKind::kTransposedConvolution;
}

WeightKind weight_kind(const ViewNode& node) {
  if (node.kind != NodeKind::kOperator || !node.op) return WeightKind::kNone;
  if (is_recurrent(node)) return WeightKind::kRecurrent;
  if (product_side(*node.op, 0)) return WeightKind::kMatMul;
  const std::string& metatype = node.op->metatype;
  if (metatype == "PTEmbeddingMetatype" || metatype == "PTAtenEmbeddingMetatype") return WeightKind::kEmbedding;
  return node.node && is_convolution(layer_kind(node.node)) ? WeightKind::kConvolution : WeightKind::kNone;
}

/// One tensor that may be compressed.
struct Candidate {
  const ViewNode* node = nullptr;
  const ViewEdge* edge = nullptr;
  WeightKind kind = WeightKind::kNone;
  at::Tensor weight;

  /// The axis that the operator sums over; not of convolutions.
  int64_t summed_axis() const {
    const auto side = product_side(*node->op, edge->input_port);
    const bool in_by_out = side && !side->left && node->op->metatype != "PTLinearMetatype";
    return weight.dim() - (in_by_out ? 2 : 1);
  }
  int64_t channels() const { return weight.size(summed_axis()); }
};

/// `spec` for a weight: one scale per group along the summed axis, or per channel.
QuantizationSpec with_axes(QuantizationSpec spec, const Candidate& c, int64_t group_size) {
  if (c.kind == WeightKind::kConvolution) {
    spec.per_channel = true;
    spec.ch_axis = layer_kind(c.node->node) == LayerKind::kTransposedConvolution ? 1 : 0;
    return spec;
  }
  const int64_t axis = c.summed_axis();
  if (group_size < 0 && c.weight.dim() == 2) {
    spec.per_channel = true;
    spec.ch_axis = 1 - axis;
    return spec;
  }
  // More axes than one keep scales of their own: a group is the whole summed axis.
  spec.group_size = group_size < 0 ? c.channels() : group_size;
  spec.group_axis = axis;
  return spec;
}

class WeightAnnotator {
 public:
  WeightAnnotator(const GraphView& view, const WeightsOnlyOptions& options, const std::vector<bool>& ignored)
      : view_(view),
        options_(options),
        ignored_(ignored),
        group_size_(options.group_size.value_or(mode_row(options.mode).group_size)),
        backup_mode_(options.backup_mode.value_or(mode_row(options.mode).backup)) {}

  Annotations run() {
    find_candidates();
    const Candidate* last = last_matmul();
    for (const auto& candidate : candidates_) add(candidate, &candidate == last);
    return std::move(annotations_);
  }

 private:
  void find_candidates() {
    const ParamIndex params(view_.model());
    std::set<std::string> seen;
    for (const auto& node : view_.nodes()) {
      const WeightKind kind = weight_kind(node);
      if (kind == WeightKind::kNone) continue;
      for (const int64_t id : node.in_edges) {
        const ViewEdge& edge = view_.edge(id);
        if (!edge.use.user || !may_hold_weight(node, kind, edge.input_port)) continue;
        const auto weight = params.find(edge.value);
        if (!weight || !is_compressible(weight->tensor)) continue;
        if (kind == WeightKind::kMatMul) last_ = {node.id, edge.from};
        const ViewNode& parameter = view_.node(edge.from);
        if (ignored_[node.id] || ignored_[edge.from]) {
          annotations_.refusals.push_back({node.name, "ignored", "the ignored scope names it or its weight"});
          continue;
        }
        if (!seen.insert(parameter.name).second) continue;
        candidates_.push_back({&node, &edge, kind, weight->tensor});
      }
    }
  }

  static bool may_hold_weight(const ViewNode& node, WeightKind kind, int64_t port) {
    if (kind == WeightKind::kRecurrent) return port > 0;
    const auto& ports = node.op->weight_ports;
    return std::find(ports.begin(), ports.end(), port) != ports.end() ||
           (kind == WeightKind::kEmbedding && port <= 1);  // the function's order differs from the operator's
  }

  static bool is_compressible(const at::Tensor& weight) {
    return weight.is_floating_point() && weight.dim() >= 2 && weight.numel() > 0;
  }

  /// The last matrix multiplication of the model keeps the backup precision, unless its weight is not its own.
  const Candidate* last_matmul() const {
    for (const auto& candidate : candidates_) {
      if (candidate.node->id == last_.first && candidate.edge->from == last_.second) return &candidate;
    }
    return nullptr;
  }

  bool is_ratio_defining(const Candidate& c, bool is_last) const {
    if (is_int8(options_.mode)) return false;
    if (c.kind == WeightKind::kMatMul) return options_.all_layers || !is_last;
    return c.kind == WeightKind::kEmbedding && options_.all_layers;
  }

  /// What GroupSizeFallbackMode::kAdjust makes of the group size; 0: the weight gets the backup precision.
  int64_t adjusted_group_size(const Candidate& c) const {
    if (group_size_ < 0 || options_.group_size_fallback_mode != GroupSizeFallbackMode::kAdjust) return group_size_;
    const int64_t size = c.channels();
    if (size % group_size_ == 0) return group_size_;
    int64_t largest = 1;
    while (largest * 2 <= group_size_ && size % (largest * 2) == 0) largest *= 2;
    return largest >= options_.min_adjusted_group_size ? largest : 0;
  }

  void add(const Candidate& c, bool is_last) {
    QuantizationPoint point;
    point.kind = PointKind::kWeight;
    point.node = c.node->name;
    point.input_port = c.edge->input_port;
    point.quantized_nodes = {c.node->name};
    CompressionChoice choice;
    choice.fallback = options_.group_size_fallback_mode;
    choice.adaptive_codebook = options_.mode == CompressWeightsMode::kAdaptiveCodebook;
    choice.ratio_defining = is_ratio_defining(c, is_last);
    const auto backup = is_int8(options_.mode) ? primary_spec(options_.mode, {}) : backup_spec(backup_mode_);
    if (backup) choice.backup = with_axes(*backup, c, backup_group(c));
    int64_t group_size = group_size_;
    if (choice.ratio_defining) group_size = adjusted_group_size(c);
    if (group_size == 0) choice.ratio_defining = false;
    if (choice.ratio_defining) {
      point.spec = with_axes(primary_spec(options_.mode, options_.codebook), c, group_size);
      point.reason = "weight in the primary precision";
    } else if (choice.backup) {
      point.spec = *choice.backup;
      point.reason = is_int8(options_.mode) ? "weight" : "weight in the backup precision";
    } else {
      annotations_.refusals.push_back({c.node->name, "backup_none", "weights of its kind stay in float"});
      return;
    }
    point.id = next_id_++;
    if (!is_int8(options_.mode)) point.compression = std::move(choice);
    annotations_.points.push_back(std::move(point));
  }

  /// Convolutions and weights whose channels are no whole number of groups have one scale per channel.
  int64_t backup_group(const Candidate& c) const {
    const int64_t size = backup_group_size(backup_mode_, group_size_);
    if (is_int8(options_.mode) || size < 0 || c.kind == WeightKind::kConvolution) return -1;
    return c.channels() % size == 0 ? size : -1;
  }

  const GraphView& view_;
  const WeightsOnlyOptions& options_;
  const std::vector<bool>& ignored_;
  const int64_t group_size_;
  const BackupMode backup_mode_;
  std::vector<Candidate> candidates_;
  std::pair<int64_t, int64_t> last_{-1, -1};  ///< the last matrix multiplication and its weight, by node id
  Annotations annotations_;
  int64_t next_id_ = 1;
};

}  // namespace

Annotations annotate_weights(const GraphView& view, const WeightsOnlyOptions& options,
                             const std::vector<bool>& ignored) {
  return WeightAnnotator(view, options, ignored).run();
}

}  // namespace tsquant::openvino
