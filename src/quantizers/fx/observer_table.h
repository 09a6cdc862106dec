#pragma once

#include <string>
#include <vector>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"
#include "tsquant/observer_module.h"

namespace tsquant::fx {

/// Where observers stand while they are placed: behind a node for all its readers, or on single edges. Observers can be
/// joined; all places of joined observers hold one.
class ObserverTable {
 public:
  static constexpr int64_t kNone = -1;

  explicit ObserverTable(const GraphView& view);

  /// What an edge reads through: the observer behind its producer, or its own.
  int64_t of_edge(int64_t edge) const;
  int64_t of_output(int64_t node) const { return outputs_[node]; }
  const ObserverConfig& config(int64_t observer) const { return configs_[root(observer)]; }

  /// Observes what `consumer`, an operator, reads through an edge. An observer of the same kind and type that already
  /// observes the producer's result is used again.
  void observe_edge(int64_t edge, const ObserverConfig& config, int64_t consumer);
  /// Observes the result of a node for all readers. `owner` is the operator that it belongs to.
  void observe_output(int64_t node, const ObserverConfig& config, int64_t owner);
  void remove_output(int64_t node) { outputs_[node] = kNone; }
  /// `other` becomes `kept`; a fixed observer gives way to one that is not.
  void join(int64_t kept, int64_t other);

  /// One point behind a producer when all its readers use one observer, else one per edge; unified groups for observers
  /// with several places.
  void write(Annotations& annotations) const;

 private:
  friend class PointWriter;
  int64_t root(int64_t observer) const;
  int64_t add(const ObserverConfig& config);

  const GraphView& view_;
  std::vector<ObserverConfig> configs_;
  std::vector<int64_t> parents_;
  std::vector<int64_t> outputs_, edges_;                 ///< observers by node and by edge
  std::vector<int64_t> output_owners_, edge_consumers_;  ///< who asked
  std::vector<std::vector<int64_t>> of_readers_;         ///< by producer: the observers on its edges, each once
};

}  // namespace tsquant::fx
