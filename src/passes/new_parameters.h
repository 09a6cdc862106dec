#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "graph/params.h"

namespace tsquant {

/// Puts stored tensors in the place of computed ones, one after the other: `detach` every reader, `store`, `attach`
/// them again. Valid as long as nobody else edits the graph.
class NewParameters {
 public:
  explicit NewParameters(Model& model);

  /// Takes input `index` away from `user` and removes what only that input needed.
  void detach(torch::jit::Node* user, size_t index);

  /// Empties an attribute when nothing reads it any more, so that its name is free.
  void give_up(const AttributeSlot& slot);

  /// Keeps `tensor` under a state-dict name: that of its only source when nothing else reads that, else in the module
  /// that holds its sources ("conv.weight" for conv.weight_g and conv.weight_v). Sources that nothing reads any more
  /// are given up.
  /// @param wish name where the sources tell none
  void store(const at::Tensor& tensor, const std::vector<AttributeSlot>& sources, const std::string& wish);

  /// Keeps `tensor` in the module that holds `source`, as its name with `suffix` (and a number when that is taken).
  /// @return it, read at the graph's insert point
  torch::jit::Value* read_beside(const at::Tensor& tensor, const c10::optional<AttributeSlot>& source,
                                 const std::string& suffix);

  /// What was stored last, read at the graph's insert point.
  torch::jit::Value* read();
  /// Lets input `index` of `user` read what was stored last.
  void attach(torch::jit::Node* user, size_t index);

 private:
  using SlotKey = std::pair<const c10::ivalue::Object*, std::string>;
  using ObjectPtr = c10::intrusive_ptr<c10::ivalue::Object>;

  void remove_if_dead(torch::jit::Node* node);
  void forget_reader(const torch::jit::Node* attribute);
  bool is_free(const AttributeSlot& slot) const;
  bool may_hold(const ObjectPtr& owner, const std::string& name, const at::Tensor& tensor) const;
  void store_as(const at::Tensor& tensor, const std::vector<std::string>& module, const std::string& wish);
  void set(const ObjectPtr& owner, const std::string& name, const at::Tensor& tensor);

  Model& model_;
  at::Tensor nothing_;
  std::map<SlotKey, int64_t> readers_;  ///< in forward
  std::unordered_map<const c10::Type*, std::vector<ObjectPtr>> objects_;
  std::vector<std::string> stored_;  ///< path of the attribute
  at::Tensor constant_;              ///< instead, where no module can hold the tensor
};

}  // namespace tsquant
