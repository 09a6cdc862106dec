#pragma once

#include <c10/util/SmallVector.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant::pt2e {

/// Ids of a node's neighbours; most nodes have few.
using NodeIds = c10::SmallVector<int64_t, 4>;

/// Where PT2E puts a quantizer: on the edge from `producer` to `consumer` (node ids), or on the result of `producer`
/// for all consumers when `consumer` is -1.
struct Place {
  int64_t producer = -1, consumer = -1;
  bool operator<(const Place& other) const {
    return std::pair(producer, consumer) < std::pair(other.producer, other.consumer);
  }
};

/// A quantizer of its own, or the quantizer of another place (SharedQuantizationSpec).
using Spec = std::variant<QuantizationSpec, Place>;

/// What an annotator wrote at one node. Inputs are keyed by their producer: a tensor that is read twice by one node is
/// quantized once.
struct NodeAnnotation {
  bool annotated = false;         ///< part of a pattern; later annotators leave it alone
  bool quantized_output = false;  ///< last node of a pattern that computes in int8
  bool excluded = false;          ///< left in float because a configuration says so
  std::vector<std::pair<int64_t, Spec>> inputs;
  c10::optional<Spec> output;
};

/// The annotations of a graph while annotators work, as the `meta` of FX nodes holds them in torchao.
class AnnotationTable {
 public:
  explicit AnnotationTable(const GraphView& view) : view_(view), nodes_(view.nodes().size()) {}

  const GraphView& view() const { return view_; }
  NodeAnnotation& at(int64_t node) { return nodes_.at(node); }
  const NodeAnnotation& at(int64_t node) const { return nodes_.at(node); }
  bool any_annotated(const std::vector<int64_t>& nodes) const;

  /// Quantizes the edges from `producer` to `node`. Nothing happens without a spec, and for containers.
  void quantize_input(int64_t node, int64_t producer, const c10::optional<Spec>& spec);
  /// Quantizes one tensor argument; nothing happens when the port does not exist.
  void quantize_port(int64_t node, int64_t port, const c10::optional<Spec>& spec);
  void mark(const std::vector<int64_t>& nodes);

  /// Points and unified groups. Places that see one tensor with equal specs get one quantizer (implicit sharing), and
  /// shared specs join places to groups: torchao's prepare.py, _get_edge_or_node_to_group_id, then NNCF's
  /// torch_ao_adapter.py, get_quantizer_config_from_annotated_model.
  /// @param quantizer   name for people
  /// @param has_global  whether a configuration held for all operators; decides what the report says about the rest
  Annotations finish(const std::string& quantizer, bool has_global) const;

 private:
  const GraphView& view_;
  std::vector<NodeAnnotation> nodes_;
};

/// Ids of the nodes that read a node's result, each once, in graph order.
NodeIds users_of(const GraphView& view, int64_t node);
/// The producer of a tensor argument, or -1.
int64_t producer_of(const GraphView& view, int64_t node, int64_t port = 0);
/// The producers of all tensor arguments, each once, in the order of the ports.
NodeIds producers_of(const GraphView& view, int64_t node);
/// Whether the node calls one of these functions.
bool is_one_of(const ViewNode& node, const std::vector<std::string>& functions);

}  // namespace tsquant::pt2e
