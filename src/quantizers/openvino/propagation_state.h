#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "quantizers/openvino/entry_lists.h"
#include "quantizers/openvino/insertion_point_graph.h"

namespace tsquant::openvino {

/// Why a quantizer stopped moving up.
enum class StopReason {
  kStart,           ///< no place above, or not moved yet
  kProducer,        ///< the operator above computes on its values
  kIgnored,         ///< the operator above is ignored
  kOtherConsumer,   ///< another consumer of the tensor stays in float
  kModelOutput,     ///< the tensor is also returned by the model
  kOtherConfig,     ///< another quantizer with other candidates stands above
  kBranchesDiffer,  ///< the branches could not be merged
  kInteger,         ///< the tensor above holds integers
  kMerged,          ///< stands above the branches that it was merged from
};

/// A quantizer on its way from the operator that asked for it towards the producer of the tensor.
struct PropagatingQuantizer {
  std::shared_ptr<const QConfigList> configs;
  int location = -1;  ///< hook where it stands
  int steps = 0;      ///< links it moved along
  bool alive = true;
  bool queued = false;
  int waiting_at = -1;  ///< post-hook where it waits for the other branches
  int group = -1;       ///< unified scale group; -1: none
  int weights_of = -1;  ///< operator site whose weight quantizer could serve instead (embeddings)
  StopReason stop = StopReason::kStart;
};

/// Quantizers by id: from 1, in order of creation; 0 is unused. Growing moves none of them, so references stay valid;
/// blocks keep allocations few.
class PropagatingQuantizerList {
 public:
  PropagatingQuantizer& operator[](int id) { return blocks_[id / kBlock][id % kBlock]; }
  const PropagatingQuantizer& operator[](int id) const { return blocks_[id / kBlock][id % kBlock]; }
  int size() const { return size_; }
  void push_back(PropagatingQuantizer traveller) {
    if (size_ % kBlock == 0) blocks_.push_back(std::make_unique<PropagatingQuantizer[]>(kBlock));
    (*this)[size_++] = std::move(traveller);
  }

 private:
  static constexpr int kBlock = 64;
  std::vector<std::unique_ptr<PropagatingQuantizer[]>> blocks_;
  int size_ = 0;
};

/// Quantizers on a InsertionPointGraph and what each site and link is affected by.
///
/// Merging quantizers does not rewrite the lists of the sites: an entry of a merged quantizer stands for the one that
/// took it over (`find`), which keeps long chains of branches linear.
class PropagationState {
 public:
  explicit PropagationState(const InsertionPointGraph& graph);

  const InsertionPointGraph& graph() const { return graph_; }
  PropagatingQuantizer& at(int id) { return travellers_[id]; }
  const PropagatingQuantizer& at(int id) const { return travellers_[id]; }
  int count() const { return travellers_.size() - 1; }
  /// The living quantizer that an entry stands for.
  int find(int id) const;

  int standing(int site) const { return standing_[site]; }
  void set_standing(int site, int id) { standing_[site] = id; }
  /// Living quantizers that affect a site or a link, in order, possibly repeated.
  IdList affecting_site(int site) const { return resolve(by_site_, site); }
  IdList affecting_link(int link) const { return resolve(by_link_, link); }

  /// Starts a quantizer before an operator's argument.
  int add_at_pre_hook(std::shared_ptr<const QConfigList> configs, int hook, int group);
  /// Starts a quantizer that others will be merged into.
  int add_at_post_hook(std::shared_ptr<const QConfigList> configs, int hook, int group);
  int clone(int id);
  void remove(int id, bool keep_standing = false);
  /// Moves along a path of links, listed from the current place upwards; the last link starts at the new place.
  void move(int id, const IdList& path);
  /// Ends `id`; the quantizer found first on `path` takes over its sinks. @param fallback takes over when none is found
  void merge_into_path(int id, const IdList& path, int fallback = -1);
  /// Marks a link as affected by the quantizers that affect the hook above it.
  void extend_to_link(const IdList& ids, int link);

  /// Operators that asked for the quantizer, those of merged quantizers among them; ascending.
  IdList sinks_of(int id) const { return collect(id, sinks_); }
  /// Adds the sinks of the branch quantizer `below`, which stays below `above`.
  void keep_below(int above, int below);
  /// Branch quantizers that stay below this one.
  IdList downstream_of(int id) const;

  int new_group();
  int group_of(int id) const { return travellers_[id].group < 0 ? -1 : find_group(travellers_[id].group); }
  void join_group(int group, int id) { travellers_[id].group = group; }
  void merge_groups(int to, int from);

  /// Ids of the quantizers that stand somewhere, ascending.
  std::vector<int> all_standing() const;

 private:
  IdList resolve(const EntryLists& lists, int list) const;
  IdList collect(int id, const EntryLists& lists) const;
  void affect_link(int id, int link);
  void affect_site(int id, int site);
  int find_group(int group) const;
  void take_over(int survivor, int id);
  int add(PropagatingQuantizer traveller);
  int create(std::shared_ptr<const QConfigList> configs, int hook, int group);

  const InsertionPointGraph& graph_;
  PropagatingQuantizerList travellers_;     ///< the first is unused
  mutable std::vector<int> forward_;        ///< by quantizer: itself, the one that took it over, or 0 when removed
  mutable std::vector<int> group_forward_;  ///< by group
  std::vector<int> standing_;               ///< by site; 0: none
  EntryLists by_site_, by_link_;
  // By quantizer. What those merged into it affect and serve is found through `absorbed_`.
  EntryLists touched_;  ///< links and sites (as -1 - site) that it affects itself
  EntryLists sinks_, absorbed_, downstream_;
};

}  // namespace tsquant::openvino
