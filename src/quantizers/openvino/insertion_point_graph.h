#pragma once

#include <cstdint>
#include <vector>

#include "quantizers/openvino/hardware_table.h"
#include "quantizers/openvino/inference_graph.h"

namespace tsquant::openvino {

enum class SiteKind : uint8_t {
  kOperator,
  kBarrier,   ///< stands after an ignored operator; no quantizer passes it
  kPostHook,  ///< place of a quantizer after an operator, for all its consumers
  kPreHook,   ///< place of a quantizer before one tensor argument
};

/// A place in the graph where a quantizer may stand, or an operator (possibly several fused ones).
struct Site {
  SiteKind kind = SiteKind::kOperator;
  bool ignored = false;  ///< operators: no quantizers for its inputs, whatever the reason
  int node = 0;          ///< operators: the first fused node; hooks: the node they belong to
  int last = -1;         ///< operators: the last fused node
  int port = -1;         ///< pre-hooks
  int metatype = -1;     ///< operators; -1 when ignored by name or pattern
  QuantizationTrait trait = QuantizationTrait::kNonQuantizable;
};

struct Link {
  int from = 0;
  int to = 0;
  bool integer = false;  ///< the tensor holds integers: no quantizer may stand on it
};

/// The graph of operators and hooks (NNCF's InsertionPointGraph and QuantizerPropagationStateGraph without quantizers).
struct InsertionPointGraph {
  const InferenceGraph* graph = nullptr;
  std::vector<Site> sites;
  std::vector<Link> links;
  IdTable in, out;               ///< links by site, in NNCF's order of insertion
  std::vector<int> operator_of;  ///< site of each present node; -1 for absent ones
  std::vector<int> roots;        ///< sites without producers
  std::vector<int> outputs;      ///< operator sites of the model's outputs

  bool is_hook(int site) const { return sites[site].kind >= SiteKind::kPostHook; }
  bool is_operator(int site) const { return sites[site].kind == SiteKind::kOperator; }
  int from(int link) const { return links[link].from; }
  int to(int link) const { return links[link].to; }
  bool is_output(int site) const;
  bool is_input(int site) const;
};

/// @param fused       groups of nodes that act as one operator
/// @param ignored     by node: left out by name or pattern
/// @param by_metatype metatypes that the model type leaves out
InsertionPointGraph make_site_graph(const InferenceGraph& graph, const std::vector<IdList>& fused,
                                    const std::vector<bool>& ignored, const MetatypeSet& by_metatype,
                                    const std::vector<OpPlan>& plans);

/// Sites in NNCF's topological order, which decides in which order quantizers start to move.
std::vector<int> start_order(const InsertionPointGraph& graph);

/// Key order of sites: operators, barriers, post-hooks, pre-hooks, each by textual port and node id.
std::vector<int> site_ranks(const InsertionPointGraph& graph);

}  // namespace tsquant::openvino
