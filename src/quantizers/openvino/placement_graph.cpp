#include "quantizers/openvino/placement_graph.h"

#include <algorithm>
#include <unordered_map>

#include "tsquant/error.h"

namespace tsquant::openvino {

int PlacementGraph::add_node(PlacementKind kind, const std::string* name, int metatype) {
  PlacementNode node;
  node.kind = kind;
  node.name = name;
  node.metatype = metatype;
  nodes.push_back(node);
  return static_cast<int>(nodes.size()) - 1;
}

int PlacementGraph::add_edge(int from, int to, int input_port, int output_port) {
  if (from >= to) {
    throw Error(ErrorCode::kInternal, "an edge of the placement graph leads back, to node " + name_of(to),
                name_of(from));
  }
  PlacementEdge edge;
  edge.from = from;
  edge.to = to;
  edge.input_port = input_port;
  edge.output_port = output_port;
  edges.push_back(edge);
  return static_cast<int>(edges.size()) - 1;
}

void PlacementGraph::find_neighbours() const {
  neighbours_.in = IdTable(nodes.size(), edges.size(), [this](int edge) { return edges[edge].to; });
  neighbours_.out = IdTable(nodes.size(), edges.size(), [this](int edge) { return edges[edge].from; });
  neighbours_.nodes = nodes.size();
  neighbours_.edges = edges.size();
}

const std::string* PlacementGraph::keep(std::string name) {
  if (!names_) names_ = std::make_shared<std::deque<std::string>>();
  names_->push_back(std::move(name));
  return &names_->back();
}

const std::vector<int64_t>* PlacementGraph::keep(std::vector<int64_t> shape) {
  if (!shapes_) shapes_ = std::make_shared<std::deque<std::vector<int64_t>>>();
  shapes_->push_back(std::move(shape));
  return &shapes_->back();
}

int metatype_index(const OpInfo& row) { return static_cast<int>(&row - op_table().data()); }

int metatype_index(const std::string& metatype) {
  static const auto index = [] {
    std::unordered_map<std::string, int> by_name;
    for (const OpInfo& row : op_table()) by_name.emplace(row.metatype, metatype_index(row));
    return by_name;
  }();
  const auto found = index.find(metatype);
  return found == index.end() ? -1 : found->second;
}

MetatypeSet::MetatypeSet(std::initializer_list<const char*> names) {
  for (const std::string name : names) {
    int index = metatype_index("PT" + name + "Metatype");
    if (index < 0) index = metatype_index(name);
    if (index < 0) throw Error(ErrorCode::kInternal, "the operator table has no metatype '" + name + "'");
    bits_[static_cast<size_t>(index)] = true;
  }
}

MetatypeSet MetatypeSet::operator|(const MetatypeSet& other) const {
  MetatypeSet both = *this;
  for (size_t i = 0; i < bits_.size(); ++i) both.bits_[i] = bits_[i] || other.bits_[i];
  return both;
}

const MetatypeSet& matmul_metatypes() {
  static const MetatypeSet set{"Linear", "MatMul", "Addmm"};
  return set;
}

const MetatypeSet& plain_convolution_metatypes() {
  static const MetatypeSet set{"Conv1d", "Conv2d", "Conv3d"};
  return set;
}

const MetatypeSet& overflow_fix_metatypes() {
  static const MetatypeSet set{"Conv1d",          "Conv2d",          "Conv3d",         "Linear",
                               "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"};
  return set;
}

const MetatypeSet& elementwise_metatypes() {
  static const MetatypeSet set{"Add",        "Mul",          "Sub",    "Div",      "Less", "LessEqual",
                               "Greater",    "GreaterEqual", "Equals", "NotEqual", "Mod",  "LogicalOr",
                               "LogicalXor", "LogicalAnd",   "Max",    "Min"};
  return set;
}

int constant_above(const PlacementGraph& graph, int edge) {
  static const int noop = metatype_index("PTNoopMetatype");
  int node = graph.edges[edge].from;
  while (graph.nodes[node].metatype == noop && !graph.in_edges(node).empty()) {
    node = graph.edges[graph.in_edges(node).front()].from;
  }
  return graph.nodes[node].kind == PlacementKind::kConstant ? node : -1;
}

namespace {

/// A product over one element scales: rotary angles are such a product of positions and constant frequencies.
bool is_outer_product(const PlacementGraph& graph, const PlacementEdge& use) {
  static const MetatypeSet kMatMul{"MatMul"}, kAddmm{"Addmm"};
  const int metatype = graph.nodes[use.to].metatype;
  if (!use.shape || use.shape->empty() || (!kMatMul.has(metatype) && !kAddmm.has(metatype))) return false;
  const bool left = use.input_port == (kAddmm.has(metatype) ? 1 : 0);
  const size_t rank = use.shape->size();
  return (*use.shape)[left || rank == 1 ? rank - 1 : rank - 2] == 1;
}

}  // namespace

bool is_constant_weight(const PlacementGraph& graph, int edge) {
  const PlacementEdge& use = graph.edges[edge];
  const auto& ports = metatype_row(graph.nodes[use.to].metatype).weight_ports;
  return std::find(ports.begin(), ports.end(), use.input_port) != ports.end() && constant_above(graph, edge) >= 0 &&
         !is_outer_product(graph, use);
}

bool has_constant_weight(const PlacementGraph& graph, int node) {
  const auto edges = graph.in_edges(node);
  return std::any_of(edges.begin(), edges.end(), [&](int edge) { return is_constant_weight(graph, edge); });
}

}  // namespace tsquant::openvino
