#pragma once

#include <c10/util/flat_hash_map.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "tsquant/model.h"
#include "tsquant/sample.h"

namespace tsquant {

struct OpInfo;  // one row of src/graph/op_table.h

/// Shape and dtype of a tensor as seen with one sample. `known` is false for values that the sample did not reach.
struct TensorInfo {
  bool known = false;
  std::vector<int64_t> shape;
  c10::ScalarType dtype = c10::kFloat;
  bool is_floating() const { return c10::isFloatingType(dtype); }
};

/// Shapes of the graph's tensors, recorded by running one sample.
using ShapeTable = std::unordered_map<const torch::jit::Value*, TensorInfo>;

/// Runs `sample` through the model and records shape and dtype of every tensor value in every block.
/// @throws Error kDataset when the sample does not fit the model
ShapeTable record_shapes(const Model& model, const Sample& sample);

enum class NodeKind { kInput, kParameter, kOperator, kOutput };

/// One node of the view: a model input, a parameter or constant tensor, an operator, or the returned values.
///
/// Operators with several results, and containers that are unpacked, are followed by one `__getitem__` node per used
/// element, as in FX graphs. prim::If is one node per tensor result, after the nodes of its blocks: it consumes what
/// the blocks return. prim::Loop is one node per carried tensor before its body, which consumes the initial value and
/// produces the value inside the body, and one node per tensor result after its body, which consumes what the body
/// returns. The flow back from there is left out, so the view has no cycles.
struct ViewNode {
  int64_t id = 0;  ///< index in GraphView::nodes(), execution order
  NodeKind kind = NodeKind::kOperator;
  std::string name;                    ///< NNCF's name: `layer1/0/conv1/conv2d/0`; inputs: argument name; parameters:
                                       ///< state-dict name; the returned values: `output`, one port per value
  std::string fx_name;                 ///< FX alias: operator + running index in execution order (`conv2d_4`)
  std::string type;                    ///< function name as the user wrote it: `conv2d`, `relu_`, `__getitem__`
  const OpInfo* op = nullptr;          ///< row of the operator table; never null for operators
  torch::jit::Node* node = nullptr;    ///< the graph node; null for inputs, GetAttr parameters and outputs
  torch::jit::Value* value = nullptr;  ///< what it produces: a tensor, or for `split` and the like a list of tensors;
                                       ///< null for outputs and for operators with several results (see below)
  torch::jit::Block* block = nullptr;  ///< the block it stands in
  TensorInfo info;                     ///< of `value`
  std::vector<int64_t> in_edges;       ///< indices into GraphView::edges(), by input port
  std::vector<int64_t> out_edges;      ///< indices into GraphView::edges()
};

/// One use of a tensor. From an operator with several results to its `__getitem__` node there is no use in the graph:
/// `value` is the element and `use.user` is null. A tensor inside a list argument (`aten::cat`) is an edge of the
/// operator that takes the list.
struct ViewEdge {
  int64_t from = 0;                    ///< producer, index into nodes()
  int64_t to = 0;                      ///< consumer, index into nodes()
  int64_t input_port = 0;              ///< index among the consumer's tensor arguments
  int64_t output_port = 0;             ///< index among the producer's tensor results
  torch::jit::Value* value = nullptr;  ///< the value that flows
  torch::jit::Use use{nullptr, 0};     ///< the exact use in the graph (the list's node for list arguments)
  TensorInfo info = {};                ///< of `value`
};

/// Read-only knowledge about a model's graph, all sub-blocks included. Valid until the graph is edited.
class GraphView {
 public:
  /// @param shapes from record_shapes; may be empty, then every TensorInfo is unknown
  explicit GraphView(const Model& model, const ShapeTable& shapes = {});

  const std::vector<ViewNode>& nodes() const { return nodes_; }
  const std::vector<ViewEdge>& edges() const { return edges_; }
  const ViewNode& node(int64_t id) const { return nodes_.at(id); }
  const ViewEdge& edge(int64_t id) const { return edges_.at(id); }

  /// The node with this stable name or FX alias; null when there is none.
  const ViewNode* find(const std::string& name) const;
  /// The node that produces this value; null when the view does not hold it.
  const ViewNode* producer(const torch::jit::Value* value) const;
  /// Up to `count` names closest to `name` (edit distance), for error messages.
  std::vector<std::string> nearest_names(const std::string& name, size_t count = 3) const;
  /// The edge into this node's tensor argument; null when the port does not exist.
  const ViewEdge* input_edge(const ViewNode& node, int64_t port) const;

  const Model& model() const { return *model_; }

 private:
  friend class GraphViewBuilder;
  const Model* model_;
  std::vector<ViewNode> nodes_;
  std::vector<ViewEdge> edges_;
  ska::flat_hash_map<std::string, int64_t> by_name_;
  std::unordered_map<const torch::jit::Value*, int64_t> by_value_;
};

}  // namespace tsquant
