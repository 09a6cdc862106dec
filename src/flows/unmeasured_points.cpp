#include "flows/unmeasured_points.h"

#include <fmt/format.h>

#include <set>

namespace tsquant {

namespace {

using torch::jit::Block;

constexpr const char* kNotReached = "not_reached";

Refusal reason_of(const GraphView& view, const QuantizationPoint& point) {
  const ViewNode* node = view.find(point.node);
  if (point.kind == PointKind::kWeight) return {"", "no_weight", "its weight is empty or computed by the graph"};
  const ViewEdge* edge = node && point.input_port ? view.input_edge(*node, *point.input_port) : nullptr;
  const TensorInfo info = edge ? edge->info : node ? node->info : TensorInfo();
  if (!info.known) return {"", kNotReached, "stands in a branch that no sample takes"};
  if (!info.is_floating()) return {"", "not_floating", "the tensor that it reads holds integers"};
  return {"", "no_values", "the tensor that it reads had no elements in any sample"};
}

/// Blocks from the one that holds a node outwards, without the body of `forward`.
template <typename Work>
void for_blocks_around(const ViewNode& node, const Work& work) {
  for (const Block* block = node.block; block && block->owningNode(); block = block->owningNode()->owningBlock()) {
    work(block);
  }
}

/// Blocks of branches and loops that the samples did not enter.
class BlocksNotTaken {
 public:
  BlocksNotTaken(const GraphView& view, const Annotations& annotations, const QParamTable& qparams) {
    std::set<const Block*> entered;
    const auto enter = [&](const ViewNode& node) {
      for_blocks_around(node, [&](const Block* block) { entered.insert(block); });
    };
    for (const auto& node : view.nodes()) {
      if (node.kind == NodeKind::kOperator && node.info.known) enter(node);
    }
    for (const auto& point : annotations.points) {
      const ViewNode* node = view.find(point.node);
      if (!node || point.kind == PointKind::kWeight || !needs_statistics(point.spec)) continue;
      if (qparams.count(point.id) > 0) {
        enter(*node);
      } else {
        for_blocks_around(*node, [&](const Block* block) { measured_.insert(block); });
      }
    }
    // Without any recorded shape nothing is known about what runs.
    if (std::none_of(view.nodes().begin(), view.nodes().end(),
                     [](const ViewNode& node) { return node.kind == NodeKind::kOperator && node.info.known; })) {
      return;
    }
    for (const auto& node : view.nodes()) {
      if (node.kind != NodeKind::kOperator || !node.value || !node.node || node.node->kind().is_prim()) continue;
      if (!node.value->type()->isSubtypeOf(*c10::TensorType::get())) continue;
      if (node.block && node.block->owningNode() && !entered.count(node.block)) blocks_.insert(node.block);
    }
  }

  /// Empty when the node may have run.
  std::string reason(const ViewNode& node) const {
    std::string text;
    for_blocks_around(node, [&](const Block* block) {
      if (!blocks_.count(block)) return;
      const bool by_all = measured_.count(block) > 0;
      if (text.empty() || by_all) {
        text = by_all ? "stands in a branch that no sample takes"
                      : "stands in a branch that the first sample does not take";
      }
    });
    return text;
  }

 private:
  std::set<const Block*> blocks_, measured_;
};

/// "12 quantizers (a input 0, b, c, ...)"
std::string list_places(const std::vector<std::string>& places) {
  constexpr size_t kShown = 3;
  const std::vector<std::string> first(places.begin(), places.begin() + std::min(places.size(), kShown));
  return fmt::format("{} ({}{})", places.size() == 1 ? "a quantizer" : fmt::format("{} quantizers", places.size()),
                     fmt::join(first, ", "), places.size() > kShown ? ", ..." : "");
}

std::string place_of_point(const QuantizationPoint& point) {
  return point.input_port ? fmt::format("{} input {}", point.node, *point.input_port) : point.node;
}

void add_warnings(const std::map<std::string, std::vector<std::string>>& places, std::vector<std::string>& warnings) {
  static const std::map<std::string, const char*> kWhy{
      {kNotReached, "no sample reached {}: what they would quantize stays in float"},
      {"not_floating", "integers arrive at {}: there is nothing to quantize"},
      {"no_values", "only tensors without elements arrive at {}: what they would quantize stays in float"}};
  for (const auto& [code, list] : places) {
    // The calibrator has told of weights.
    const auto why = kWhy.find(code);
    if (why != kWhy.end()) warnings.push_back(fmt::format(fmt::runtime(why->second), list_places(list)));
  }
}

}  // namespace

UnmeasuredPoints find_unmeasured_points(const GraphView& view, const Annotations& annotations,
                                        const QParamTable& qparams) {
  UnmeasuredPoints result;
  result.present = annotations;
  auto& points = result.present.points;
  points.erase(std::remove_if(points.begin(), points.end(), [&](const auto& p) { return !qparams.count(p.id); }),
               points.end());
  std::map<std::string, std::vector<std::string>> places;
  for (const auto& point : annotations.points) {
    if (qparams.count(point.id)) continue;
    Refusal refusal = reason_of(view, point);
    places[refusal.code].push_back(place_of_point(point));
    for (const auto& name : point.quantized_nodes) {
      refusal.node = name;
      result.losses.emplace(name, refusal);
    }
  }
  add_warnings(places, result.warnings);

  std::set<std::string> with_activation, with_weight;
  for (const auto& point : points) {
    auto& names = point.kind == PointKind::kWeight ? with_weight : with_activation;
    names.insert(point.quantized_nodes.begin(), point.quantized_nodes.end());
  }
  const BlocksNotTaken not_taken(view, annotations, qparams);
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator || with_activation.count(node.name)) continue;
    const std::string reason = not_taken.reason(node);
    if (!reason.empty()) result.losses[node.name] = {node.name, kNotReached, reason};
  }
  for (auto& [name, refusal] : result.losses) {
    if (with_weight.count(name)) refusal.reason += "; its weight is quantized";
  }
  return result;
}

}  // namespace tsquant
