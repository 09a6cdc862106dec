#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "graph/access_index.h"
#include "graph/names.h"
#include "graph/params.h"
#include "graph/tensor_values.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// Fills a GraphView: one pass that marks the parameters that operators read, one that makes nodes and edges.
class GraphViewBuilder {
 public:
  GraphViewBuilder(GraphView& view, const ShapeTable& shapes);
  void build();

 private:
  using Block = torch::jit::Block;
  using Node = torch::jit::Node;
  using Use = torch::jit::Use;
  using Value = torch::jit::Value;

  void mark_block(Block* block);
  void mark_use(const Use& use);
  void visit_block(Block* block);
  void visit(Node* node);

  void add_inputs();
  void add_source(Node* node);
  void add_operator(Node* node);
  void add_unpack(Node* node);
  void add_if(Node* node);
  void add_loop_inputs(Node* node);
  void add_loop_results(Node* node);
  void add_returned();
  void add_control(const NodeNames& names, Node* node, Value* value, const std::vector<Use>& uses);
  void add_constants_of(const Use& use);
  void add_elements(int64_t producer, const std::vector<Value*>& values, const NodeNames& names, Block* block);

  int64_t add_node(NodeKind kind, NodeNames names, Block* block, Node* node, Value* value);
  void add_edge(int64_t from, int64_t to, int64_t output_port, Value* value, const Use& use);
  /// Adds the edges of one argument: one per tensor in it.
  void add_use(int64_t to, const Use& use);
  const OpInfo& row_of(const ViewNode& node) const;
  NodeNames names_for(Node* node);
  std::string free_name(const std::string& name);
  TensorInfo info_of(const Value* value) const;
  bool is_folded(const Value* value) const { return sizes_.contains(value) || is_scalar_constant(value); }

  GraphView& view_;
  const Model& model_;
  const ShapeTable& shapes_;
  torch::jit::Graph& graph_;
  SizeArithmetic sizes_;
  ParamScope params_;
  std::unordered_set<const Value*> marked_;
  std::unordered_map<AccessIndex::Key, int64_t, AccessIndex::KeyHash> slots_;
  std::unordered_map<std::string, int64_t> unnamed_, repeated_;
  std::unordered_map<const Value*, int64_t> output_ports_;
  int64_t constants_ = 0;
};

}  // namespace tsquant
