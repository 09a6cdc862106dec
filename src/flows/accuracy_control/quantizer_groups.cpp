#include "flows/accuracy_control/quantizer_groups.h"

#include <algorithm>
#include <map>
#include <set>

#include "graph/op_table.h"

namespace tsquant {

namespace {

enum class Kind {
  kConstant,
  kQuantizer,
  kQuantizable,
  kMovesValues,
  kOther,
};

Kind kind_of(const ViewNode& node) {
  if (node.kind == NodeKind::kParameter) return Kind::kConstant;
  if (node.kind != NodeKind::kOperator) return Kind::kOther;
  switch (node.op->default_trait) {
    case QuantizationTrait::kInputsQuantizable:
      return Kind::kQuantizable;
    case QuantizationTrait::kQuantizationAgnostic:
    case QuantizationTrait::kConcat:
    case QuantizationTrait::kOutputQuantizationAsWeights:  // embeddings move the rows of their weight
      return Kind::kMovesValues;
    default:
      return Kind::kOther;
  }
}

/// The view with its quantizers as nodes of their own: ids up to view.nodes().size() are the view's.
class QuantizedGraph {
 public:
  QuantizedGraph(const GraphView& view, const Annotations& annotations, const QParamTable& qparams) : view_(view) {
    for (const auto& node : view.nodes()) kinds_.push_back(kind_of(node));
    std::map<int64_t, int64_t> after, before;  // node -> quantizer, edge -> quantizer
    for (const auto& point : annotations.points) {
      const ViewNode* node = view.find(point.node);
      if (!node || !qparams.count(point.id)) continue;
      const ViewEdge* edge = point.input_port ? view.input_edge(*node, *point.input_port) : nullptr;
      if (point.input_port && !edge) continue;
      const auto id = static_cast<int64_t>(kinds_.size());
      kinds_.push_back(Kind::kQuantizer);
      points_.push_back(point.id);
      if (edge) {
        before[edge - view.edges().data()] = id;
        order_.push_back(2 * edge->to - 1);
      } else {
        after[node->id] = id;
        order_.push_back(2 * node->id + 1);
      }
    }
    parents_.resize(kinds_.size());
    children_.resize(kinds_.size());
    for (const auto& [node, quantizer] : after) link(node, quantizer);
    for (size_t i = 0; i < view.edges().size(); ++i) {
      const ViewEdge& edge = view.edges()[i];
      const auto behind = after.find(edge.from);
      int64_t from = behind == after.end() ? edge.from : behind->second;
      const auto ahead = before.find(static_cast<int64_t>(i));
      if (ahead != before.end()) {
        link(from, ahead->second);
        from = ahead->second;
      }
      link(from, edge.to);
    }
  }

  Kind kind(int64_t id) const { return kinds_[id]; }
  const std::vector<int64_t>& parents(int64_t id) const { return parents_[id]; }
  const std::vector<int64_t>& children(int64_t id) const { return children_[id]; }
  int64_t point(int64_t quantizer) const { return points_[quantizer - first()]; }
  const std::string& name(int64_t id) const { return view_.node(id).name; }

  /// Quantizers, last first.
  std::vector<int64_t> quantizers() const {
    std::vector<int64_t> ids(points_.size());
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = first() + static_cast<int64_t>(i);
    std::stable_sort(ids.begin(), ids.end(), [&](int64_t a, int64_t b) { return place(a) > place(b); });
    return ids;
  }

 private:
  int64_t first() const { return static_cast<int64_t>(view_.nodes().size()); }
  int64_t place(int64_t quantizer) const { return order_[quantizer - first()]; }

  void link(int64_t from, int64_t to) {
    children_[from].push_back(to);
    parents_[to].push_back(from);
  }

  const GraphView& view_;
  std::vector<Kind> kinds_;
  std::vector<int64_t> points_, order_;
  std::vector<std::vector<int64_t>> parents_, children_;
};

/// Finds what must go together with one quantizer. Downstream: the operators that read its values, directly or through
/// operators that move them; they become float. Upstream of each of these: the quantizers of its other inputs, whose
/// readers are then visited in turn.
class Cut {
 public:
  Cut(const QuantizedGraph& graph, int64_t quantizer) : graph_(graph) {
    quantizers_.insert(quantizer);
    readers_.push_back(quantizer);
    while (!readers_.empty() || !sources_.empty()) {
      if (!readers_.empty()) visit_readers(take(readers_));
      if (!sources_.empty()) visit_sources(take(sources_));
    }
  }

  const std::set<int64_t>& quantizers() const { return quantizers_; }
  const std::set<int64_t>& operators() const { return operators_; }

 private:
  static int64_t take(std::vector<int64_t>& stack) {
    const int64_t id = stack.back();
    stack.pop_back();
    return id;
  }

  void visit_readers(int64_t id) {
    if (!seen_readers_.insert(id).second) return;
    for (int64_t child : graph_.children(id)) {
      const Kind kind = graph_.kind(child);
      if (kind == Kind::kConstant) continue;
      if (kind == Kind::kQuantizer) {
        visit_quantizer_behind(id, child);
        continue;
      }
      if (kind == Kind::kQuantizable) operators_.insert(child);
      if (kind == Kind::kMovesValues) readers_.push_back(child);
      sources_.push_back(child);
    }
  }

  /// Two quantizers in a row go together. One behind an operator keeps its own readers quantized.
  void visit_quantizer_behind(int64_t id, int64_t quantizer) {
    if (graph_.kind(id) == Kind::kQuantizer) {
      quantizers_.insert(quantizer);
      readers_.push_back(quantizer);
    } else {
      seen_readers_.insert(quantizer);
    }
  }

  void visit_sources(int64_t id) {
    if (!seen_sources_.insert(id).second) return;
    for (int64_t parent : graph_.parents(id)) {
      switch (graph_.kind(parent)) {
        case Kind::kConstant:
          break;
        case Kind::kQuantizer:
          if (seen_readers_.count(parent)) break;
          quantizers_.insert(parent);
          readers_.push_back(parent);
          if (behind_quantizers(parent)) sources_.push_back(parent);
          break;
        case Kind::kQuantizable:
          readers_.push_back(parent);
          break;
        case Kind::kMovesValues:
          readers_.push_back(parent);
          sources_.push_back(parent);
          break;
        case Kind::kOther:
          sources_.push_back(parent);
          break;
      }
    }
  }

  bool behind_quantizers(int64_t id) const {
    const auto& parents = graph_.parents(id);
    return std::all_of(parents.begin(), parents.end(),
                       [&](int64_t parent) { return graph_.kind(parent) == Kind::kQuantizer; });
  }

  const QuantizedGraph& graph_;
  std::vector<int64_t> readers_, sources_;
  std::set<int64_t> seen_readers_, seen_sources_, quantizers_, operators_;
};

}  // namespace

std::vector<QuantizerGroup> find_quantizer_groups(const GraphView& view, const Annotations& annotations,
                                                  const QParamTable& qparams) {
  const QuantizedGraph graph(view, annotations, qparams);
  std::vector<QuantizerGroup> groups;
  std::set<int64_t> done;
  for (int64_t quantizer : graph.quantizers()) {
    if (done.count(quantizer)) continue;
    const Cut cut(graph, quantizer);
    QuantizerGroup group;
    for (int64_t id : cut.quantizers()) group.points.push_back(graph.point(id));
    for (int64_t id : cut.operators()) group.operators.push_back(graph.name(id));
    std::sort(group.points.begin(), group.points.end());
    done.insert(cut.quantizers().begin(), cut.quantizers().end());
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace tsquant
