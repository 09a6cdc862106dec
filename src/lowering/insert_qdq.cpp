#include <fmt/format.h>

#include <set>
#include <unordered_map>

#include "graph/mutation.h"
#include "graph/params.h"
#include "graph/shared_weight.h"
#include "lowering/float_zero_points.h"
#include "lowering/lowering.h"
#include "lowering/point_place.h"
#include "lowering/reference_nodes.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

bool same_parameters(const QParams& a, const QParams& b) {
  return a.format == b.format && a.dtype == b.dtype && a.per_channel == b.per_channel &&
         (!a.per_channel || a.axis == b.axis) && a.group_size == b.group_size && a.quant_min == b.quant_min &&
         a.quant_max == b.quant_max && a.is_dynamic == b.is_dynamic &&
         has_float_zero_points(a) == has_float_zero_points(b) && at::equal(a.scale, b.scale) &&
         at::equal(a.zero_point, b.zero_point);
}

/// Uses that one quantizer feeds. A group without uses stands after its value, for all consumers.
struct Group {
  Value* value = nullptr;
  const QParams* qparams = nullptr;
  std::vector<Use> uses;
  std::set<std::pair<const Node*, size_t>> known_uses;
  int64_t rank = -1;
};

/// Groups in the order in which they were planned. Those of one tensor are found by its identity.
class Groups {
 public:
  /// The group with these parameters; when there is none, `make` gives a new one.
  template <typename Make>
  Group& find_or_add(const std::string& tensor, const QParams& qparams, const Make& make) {
    auto& known = of_tensor_[tensor];
    for (const size_t index : known) {
      if (same_parameters(*groups_[index].qparams, qparams)) return groups_[index];
    }
    known.push_back(groups_.size());
    groups_.push_back(make());
    return groups_.back();
  }

  bool empty() const { return groups_.empty(); }
  std::vector<Group>::const_iterator begin() const { return groups_.begin(); }
  std::vector<Group>::const_iterator end() const { return groups_.end(); }

 private:
  std::vector<Group> groups_;
  std::unordered_map<std::string, std::vector<size_t>> of_tensor_;
};

std::string identity_of(const Value* value) { return fmt::format("%{}", value->unique()); }

class Inserter {
 public:
  Inserter(Model& model, const GraphView& view, bool fold, std::vector<Refusal>& refusals)
      : model_(model), scope_(model), view_(view), fold_(fold), refusals_(refusals), mutation_(model.graph()) {}

  void plan(const QuantizationPoint& point, const QParams& qparams) {
    const PointPlace place = place_in_graph(view_, point);
    for (const Use& use : place.uses) plan_use(point, qparams, use.user->input(use.offset), use);
    if (place.uses.empty() && place.value) plan_after(point, qparams, place.value);
  }

  /// Returns whether anything was planned.
  bool apply() {
    for (const Group& group : weights_) insert_folded(group);
    for (const Group& group : before_) insert_before(group);
    for (const Group& group : after_) insert_after(group);
    return !weights_.empty() || !before_.empty() || !after_.empty();
  }

 private:
  void plan_after(const QuantizationPoint& point, const QParams& qparams, Value* value) {
    if (!may_quantize(point, qparams, value)) return;
    after_.find_or_add(identity_of(value), qparams, [&] { return make_group(value, qparams); });
  }

  void plan_use(const QuantizationPoint& point, const QParams& qparams, Value* value, const Use& use) {
    const auto parameter = param_of(model_, value);
    if (!may_quantize(point, qparams, value)) return;
    const bool folds = parameter && (fold_ || is_for_storage(qparams));
    const std::string tensor = folds && !parameter->name.empty() ? parameter->name : identity_of(value);
    Group& group =
        (folds ? weights_ : before_).find_or_add(tensor, qparams, [&] { return make_group(value, qparams); });
    if (group.known_uses.emplace(use.user, use.offset).second) group.uses.push_back(use);
  }

  Group make_group(Value* value, const QParams& qparams) const {
    Group group;
    group.value = value;
    group.qparams = &qparams;
    group.rank = rank_of(value);
    return group;
  }

  int64_t rank_of(const Value* value) const {
    if (const auto parameter = param_of(model_, value)) return parameter->tensor.dim();
    const ViewNode* producer = view_.producer(value);
    return producer && producer->info.known ? static_cast<int64_t>(producer->info.shape.size()) : -1;
  }

  bool may_quantize(const QuantizationPoint& point, const QParams& qparams, Value* value) {
    auto fault = fault_of(model_, view_, mutation_, value);
    if (!fault && is_for_storage(qparams) && !param_of(model_, value)) {
      fault = Refusal{"", "computed_weight", "nothing computes such codes while the model runs"};
    }
    if (!fault && !can_insert_quantize(qparams, rank_of(value))) {
      fault = Refusal{"", "unknown_shape", "fewer levels per channel need a tensor of known rank"};
    }
    if (fault) refuse_point(point, *fault, refusals_);
    return !fault;
  }

  // %w = prim::GetAttr[name="weight"](%conv)      (float)
  //   ->
  // %w = prim::GetAttr[name="weight"](%conv)      (qint8, under the same state-dict name)
  // %d = aten::dequantize(%w)
  void insert_folded(const Group& group) {
    const auto tensor = param_of(model_, group.value)->tensor;
    std::vector<ParameterUse> uses;
    for (const Use& use : group.uses) uses.emplace_back(use.user, use.offset);
    Node* dequantize = insert_reader(model_, uses, dequantize_kind(*group.qparams));
    dequantize->output()->setType(c10::TensorType::get());
    {
      torch::jit::WithInsertPoint guard(dequantize);
      for (Value* argument : dequantize_arguments(*model_.graph(), *group.qparams)) dequantize->addInput(argument);
    }
    const auto codes = quantize(tensor.detach(), *group.qparams);
    set_param(model_, dequantize, 0, is_libtorchs(*group.qparams) ? make_quantized(codes, *group.qparams) : codes);
    if (has_float_zero_points(*group.qparams)) insert_float_zero_points(dequantize, *group.qparams, tensor.dim());
  }

  void insert_before(const Group& group) {
    auto graph = model_.graph();
    Value* quantized = nullptr;
    {
      torch::jit::WithInsertPoint guard(node_before(group.value, group.uses));
      quantized = insert_quantize(*graph, group.value, *group.qparams, group.rank);
    }
    for (const Use& use : group.uses) {
      torch::jit::WithInsertPoint guard(use.user);
      use.user->replaceInput(use.offset, insert_dequantize(*graph, quantized, *group.qparams));
    }
  }

  void insert_after(const Group& group) {
    auto graph = model_.graph();
    torch::jit::WithInsertPoint guard(node_after(group.value));
    Value* quantized = insert_quantize(*graph, group.value, *group.qparams, group.rank);
    Value* result = insert_dequantize(*graph, quantized, *group.qparams);
    group.value->replaceAllUsesAfterNodeWith(result->node(), result);
  }

  Model& model_;
  ParamScope scope_;
  const GraphView& view_;
  bool fold_;
  std::vector<Refusal>& refusals_;
  MutationAnalysis mutation_;
  Groups weights_, before_, after_;
};

}  // namespace

bool insert_qdq(Model& model, const GraphView& view, const Annotations& annotations, const QParamTable& qparams,
                bool fold, std::vector<Refusal>& refusals) {
  Inserter inserter(model, view, fold, refusals);
  for (const auto& point : annotations.points) {
    const auto found = qparams.find(point.id);
    if (found != qparams.end()) inserter.plan(point, found->second);
  }
  return inserter.apply();
}

}  // namespace tsquant
