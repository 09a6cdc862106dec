#pragma once

#include <c10/util/SmallVector.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "graph/op_table.h"
#include "quantizers/id_table.h"

namespace tsquant::openvino {

/// A short list of ids; most nodes have few neighbours.
using IdList = c10::SmallVector<int, 4>;

enum class PlacementKind { kInput, kConstant, kOperator, kOutput };

/// The graph that placement works on: what NNCF's graph holds, with integers instead of names as keys.
struct PlacementNode {
  PlacementKind kind = PlacementKind::kOperator;
  const std::string* name = nullptr;  ///< owned by the view, or by the graph (`keep`)
  int metatype = 0;                   ///< index of the row in op_table()
  bool gives_tensor = true;           ///< its result is one tensor, no container and no number
};

/// One use of a tensor.
struct PlacementEdge {
  int from = 0;
  int to = 0;
  int input_port = 0;   ///< index among the consumer's tensor arguments
  int output_port = 0;  ///< index among the producer's results
  bool integer = false;
  const std::vector<int64_t>* shape = nullptr;  ///< of the tensor; null: unknown
};

/// Nodes in execution order, so that edges lead to larger ids; the position of a node is its id.
struct PlacementGraph {
  std::vector<PlacementNode> nodes;
  std::vector<PlacementEdge> edges;

  int add_node(PlacementKind kind, const std::string* name, int metatype);
  /// @throws Error kInternal unless `from` is smaller than `to`
  int add_edge(int from, int to, int input_port, int output_port = 0);
  const std::string& name_of(int node) const { return *nodes[static_cast<size_t>(node)].name; }
  /// Edges of a node, in the order in which they were added.
  c10::ArrayRef<int> in_edges(int node) const { return neighbours().in[node]; }
  c10::ArrayRef<int> out_edges(int node) const { return neighbours().out[node]; }

  /// Storage for names and shapes of graphs that were not made from a view.
  const std::string* keep(std::string name);
  const std::vector<int64_t>* keep(std::vector<int64_t> shape);

 private:
  struct Neighbours {
    size_t nodes = 0, edges = 0;  ///< of the graph that the tables were made for
    IdTable in, out;
  };
  /// Made anew after nodes or edges were added.
  const Neighbours& neighbours() const {
    if (neighbours_.nodes != nodes.size() || neighbours_.edges != edges.size()) find_neighbours();
    return neighbours_;
  }
  void find_neighbours() const;

  mutable Neighbours neighbours_;
  std::shared_ptr<std::deque<std::string>> names_;
  std::shared_ptr<std::deque<std::vector<int64_t>>> shapes_;
};

/// Index of a row of op_table(), by the row itself or by metatype; -1 when there is no such metatype.
int metatype_index(const OpInfo& row);
int metatype_index(const std::string& metatype);
inline const OpInfo& metatype_row(int index) { return op_table()[static_cast<size_t>(index)]; }

/// A set of metatypes with constant-time look-up.
class MetatypeSet {
 public:
  MetatypeSet() = default;
  /// @param names without the prefix "PT" and the suffix "Metatype", or complete ("PTReduceL2")
  MetatypeSet(std::initializer_list<const char*> names);
  bool has(int metatype) const { return bits_[static_cast<size_t>(metatype)]; }
  MetatypeSet operator|(const MetatypeSet& other) const;
  const std::vector<bool>& bits() const { return bits_; }

 private:
  std::vector<bool> bits_ = std::vector<bool>(op_table().size(), false);
};

// NNCF's groups of metatypes (torch/graph/operator_metatypes.py, min_max/torch_fx_backend.py).
const MetatypeSet& matmul_metatypes();
/// Convolutions whose weights FIRST_LAYER halves: no depthwise, no transposed.
const MetatypeSet& plain_convolution_metatypes();
/// Operators whose weights OverflowFix::kEnable halves.
const MetatypeSet& overflow_fix_metatypes();
const MetatypeSet& elementwise_metatypes();

/// The constant above an edge, through no-op nodes; -1 when a computed tensor arrives.
int constant_above(const PlacementGraph& graph, int edge);
/// Whether an edge brings a constant to one of its consumer's weight ports.
bool is_constant_weight(const PlacementGraph& graph, int edge);
/// Whether one of the operator's arguments is a constant weight.
bool has_constant_weight(const PlacementGraph& graph, int node);

}  // namespace tsquant::openvino
