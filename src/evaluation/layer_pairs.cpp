#include "evaluation/layer_pairs.h"

#include <algorithm>

#include "evaluation/compare.h"
#include "graph/names.h"
#include "graph/node_lists.h"

namespace tsquant {

namespace {

const std::string kStamp = "tsq_";

/// Operators whose first result is a tensor that can be tapped. Control flow is left out: its results are compared
/// where the blocks produce them.
std::vector<const ViewNode*> comparable(const GraphView& view) {
  std::vector<const ViewNode*> nodes;
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator || !node.node || !node.value || is_qdq(node)) continue;
    if (node.node->blocks().empty() && node.value->type()->isSubtypeOf(*c10::TensorType::get())) nodes.push_back(&node);
  }
  return nodes;
}

bool same_operator(const ViewNode& a, const ViewNode& b) {
  return a.node->kind() == b.node->kind() && a.value->offset() == b.value->offset();
}

/// Longest common subsequence of operator kinds: exact for Q/DQ forms, tolerant of operators that one side lacks.
LayerPairs pair_in_order(const std::vector<const ViewNode*>& a, const std::vector<const ViewNode*>& b) {
  LayerPairs pairs;
  size_t begin = 0;
  while (begin < a.size() && begin < b.size() && same_operator(*a[begin], *b[begin])) {
    pairs.emplace_back(a[begin]->id, b[begin]->id);
    ++begin;
  }
  const size_t rows = a.size() - begin, columns = b.size() - begin;
  constexpr size_t kMaxCells = size_t{1} << 26;
  if (rows == 0 || columns == 0 || rows * columns > kMaxCells) return pairs;
  std::vector<std::vector<uint32_t>> length(rows + 1, std::vector<uint32_t>(columns + 1, 0));
  for (size_t i = rows; i-- > 0;) {
    for (size_t j = columns; j-- > 0;) {
      length[i][j] = same_operator(*a[begin + i], *b[begin + j]) ? length[i + 1][j + 1] + 1
                                                                 : std::max(length[i + 1][j], length[i][j + 1]);
    }
  }
  for (size_t i = 0, j = 0; i < rows && j < columns;) {
    if (same_operator(*a[begin + i], *b[begin + j])) {
      pairs.emplace_back(a[begin + i++]->id, b[begin + j++]->id);
    } else if (length[i + 1][j] >= length[i][j + 1]) {
      ++i;
    } else {
      ++j;
    }
  }
  return pairs;
}

/// The stamped operators by FX alias. Loading appends ".1" and the like to the names of an archive's code.
std::unordered_map<std::string, const ViewNode*> stamped(const std::vector<const ViewNode*>& nodes) {
  std::unordered_map<std::string, const ViewNode*> result;
  for (const auto* node : nodes) {
    const std::string name = node->value->hasDebugName() ? node->value->debugName() : "";
    if (name.compare(0, kStamp.size(), kStamp) != 0) continue;
    result.emplace(name.substr(kStamp.size(), name.find('.') - kStamp.size()), node);
  }
  return result;
}

/// Operators that a neighbour's kernel computes too, by stable name.
std::unordered_set<std::string> fused_names(const Report* report) {
  std::unordered_set<std::string> names;
  if (!report) return names;
  for (const auto& node : report->nodes) {
    if (node.kernel.rfind("fused into ", 0) == 0) names.insert(node.name);
  }
  return names;
}

bool joins_branches(const GraphView& view, const ViewNode& node) {
  return std::count_if(node.in_edges.begin(), node.in_edges.end(), [&](int64_t id) {
           return id >= 0 && view.node(view.edge(id).from).kind != NodeKind::kParameter;
         }) > 1;
}

/// A kernel bears the name of its first operator, but returns what the last one fused into it would. An addition
/// belongs to the one of its operands whose kernel adds.
const ViewNode* last_fused(const GraphView& view, const ViewNode* node, const ViewNode& kernel,
                           const std::unordered_set<std::string>& fused) {
  const std::string kind = kernel.node->kind().toUnqualString();
  bool adds = kind.size() > 4 && kind.compare(kind.size() - 4, 4, "_add") == 0;
  for (bool moved = true; moved;) {
    moved = false;
    for (int64_t id : node->out_edges) {
      const auto& consumer = view.node(view.edge(id).to);
      if (consumer.kind != NodeKind::kOperator || !fused.count(consumer.name)) continue;
      if (joins_branches(view, consumer)) {
        if (!adds) continue;
        adds = false;
      }
      node = &consumer;
      moved = true;
      break;
    }
  }
  return node;
}

}  // namespace

bool is_qdq(const ViewNode& node) {
  if (!node.node) return false;
  const std::string name = node.node->kind().toUnqualString();
  return name == "dequantize" || name == "quantize" || name.rfind("quantize_per_", 0) == 0 ||
         name.rfind("dequantize_per_", 0) == 0 || name.rfind("fake_quantize_", 0) == 0;
}

LayerPairs pair_layers(const GraphView& float_view, const GraphView& quantized_view, const Report* report) {
  const auto floats = comparable(float_view), quantized = comparable(quantized_view);
  const bool fused = std::any_of(quantized.begin(), quantized.end(), [](const ViewNode* node) {
    const std::string ns = node->node->kind().ns().toUnqualString();
    return ns == "quantized" || ns == "tsquant";
  });
  if (!fused) return pair_in_order(floats, quantized);
  LayerPairs pairs;
  const auto by_stamp = stamped(quantized);
  const auto fused_away = fused_names(report);
  std::unordered_set<int64_t> taken;
  for (const auto* node : floats) {
    const auto found = by_stamp.find(node->fx_name);
    if (found == by_stamp.end()) continue;
    const int64_t id = last_fused(float_view, node, *found->second, fused_away)->id;
    if (taken.insert(id).second) pairs.emplace_back(id, found->second->id);
  }
  return pairs;
}

bool stamp_value_names(Model& model) {
  // Of several nodes made from one operator the last has its result.
  std::vector<std::string> aliases;
  std::unordered_map<std::string, torch::jit::Value*> holders;
  for (torch::jit::Node* node : all_nodes(model.graph()->block())) {
    const std::string alias = names_of(node).fx_name, kind = node->kind().toUnqualString();
    const bool qdq = kind.rfind("quantize", 0) == 0 || kind.rfind("dequantize", 0) == 0 || kind.rfind("fake_", 0) == 0;
    if (alias.empty() || qdq || node->outputs().empty() || node->kind().is_prim()) continue;
    if (!node->output(0)->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    if (!holders.count(alias)) aliases.push_back(alias);
    holders[alias] = node->output(0);
  }
  bool changed = false;
  for (const auto& alias : aliases) {
    torch::jit::Value* holder = holders.at(alias);
    if (holder->debugName() == kStamp + alias) continue;
    holder->setDebugName(kStamp + alias);
    changed = true;
  }
  return changed;
}

}  // namespace tsquant
