#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "quantizers/openvino/merge_rules.h"
#include "quantizers/openvino/propagation_queue.h"
#include "quantizers/openvino/propagation_state.h"

namespace tsquant::openvino {

/// Hard filters on candidates: the preset's mode and the user's QuantizationParameters.
struct Constraints {
  c10::optional<QuantizationScheme> mode;
  c10::optional<int64_t> num_bits;
  c10::optional<bool> signedness_to_force, per_channel, narrow_range;

  bool allows(const QConfig& config) const;
  QConfig apply_to(QConfig config) const;
  /// The candidates that fit. When the device has none with these num_bits (for weights: or this narrow_range), its
  /// other candidates with that field replaced: NNCF refuses them, but the levels are the user's to choose, and fewer
  /// of them always fit into the device's 8 bits.
  /// @throws Error kInvalidArgument when nothing is left
  QConfigList filter(const QConfigList& list, const std::string& node, const char* what) const;
  std::string describe() const;

 private:
  QConfigList matching(const QConfigList& list) const;
  QConfigList overriding(const QConfigList& list, bool weight) const;
};

struct SolverOptions {
  QuantizerPropagationRule rule = QuantizerPropagationRule::kMergeAllInOne;
  bool quantize_outputs = false;
  bool attention_values = false;  ///< quantize also the value argument of attention (fp8)
  Constraints activations;
};

/// Moves quantizers from the operators that ask for them up to the producers of the tensors and merges them on the way
/// (nncf/common/quantization/quantizer_propagation/solver.py).
class PropagationSolver {
 public:
  PropagationSolver(PropagationState& state, const std::vector<OpPlan>& plans, const SolverOptions& options);

  /// @return ids of the quantizers that remain, in the order in which they stopped
  std::vector<int> run();

 private:
  enum class Transition { kStop, kMove, kMerge, kWait };
  struct Check {
    Transition transition;
    StopReason reason = StopReason::kStart;
  };

  void start_quantizers();
  void start_at_operator(int site);
  std::shared_ptr<const QConfigList> candidates(int site);
  QConfigList make_candidates(int site) const;
  void step(int id);
  void step_waiting(int id);
  IdList make_clones(int id, size_t paths);
  /// @return true when the quantizer stays in the queue
  bool process_path(int id, const IdList& path, const IdList& clones);
  Check check_path(int id, const IdList& path, const IdList& clones);
  Check check_conflict(int id, int resident) const;
  Check check_branching(int id, int branch);
  void merge_at(int branch, const IdList& waiting);
  using ListsAtBranch = c10::SmallVector<const QConfigList*, 4>;
  struct Merge {
    std::shared_ptr<const QConfigList> above;  ///< null when the branches stay apart
    std::vector<bool> keep;                    ///< by branch
  };
  /// The rule's decision for these quantizers. Few combinations of lists meet, however many branches there are.
  const Merge& decide(const IdList& waiting);
  void release_all();
  void finish(int id, StopReason reason);
  /// Tells parked quantizers that `id` is no longer where they saw it.
  void notify(int id);

  c10::SmallVector<IdList, 2> paths_above(int hook) const;
  bool needs_unified_scales(int hook) const;
  bool feeds_weighted_operator(int site) const;
  /// Operators below a branch that do not merely move values, nearest first.
  template <typename Visitor>
  void visit_operators_below(int branch, Visitor&& visitor) const;
  /// The first travelling quantizers below a site, nearest first; `visitor` ends the walk with false.
  template <typename Visitor>
  void visit_travelling_below(int site, int also, Visitor&& visitor) const;
  /// Remembers that nothing travels below a branch at which all quantizers from below have arrived.
  void leave_behind(int branch);
  bool is_affected_by_other(int op, int id) const;
  /// Whether another quantizer affects one of the operators below a branch that do not merely move values.
  bool has_others_below(int branch, int id) const;
  bool all_outputs_quantized(int branch) const;
  void find_output_dominators();
  void find_float_consumers();
  /// First visit of a site in the present walk.
  bool visit(int site) const;

  PropagationState& state_;
  const InsertionPointGraph& graph_;
  const std::vector<OpPlan>& plans_;
  SolverOptions options_;
  PropagationQueue queue_;
  EntryLists waiting_;   ///< by branch
  EntryLists watchers_;  ///< by quantizer: parked ones that look again when it moves
  /// By branch: a quantizer that those waiting there miss; 0: none is known. Forgotten when it moves.
  std::vector<int> missing_at_;
  /// By site: no quantizer travels below it. They only move up, so none ever will; walks end here.
  std::vector<char> left_behind_;
  std::vector<int> finished_;
  std::vector<int> order_;              ///< sites in NNCF's topological order
  std::vector<bool> dominates_output_;  ///< by site
  /// By site: an operator below it, through operators that move values, got no quantizer; and: one below it is a
  /// concatenation or takes quantizers for some arguments only, so that the answer changes with time.
  std::vector<bool> float_below_, special_below_;
  std::vector<std::shared_ptr<const QConfigList>> lists_;  ///< by metatype: candidates, shared by all its operators
  std::map<ListsAtBranch, Merge> merges_;                  ///< by the lists that meet, which the state keeps alive
  mutable std::vector<int> walk_;                          ///< queue of the present walk
  mutable std::vector<int> seen_;
  mutable int stamp_ = 0;
};

}  // namespace tsquant::openvino
