#include "fx_golden.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "graph/names.h"
#include "support/support.h"

namespace tsquant::testing {

namespace {

using Json = nlohmann::json;

/// Names observers, of any kind of id, by the tensor at which they are first seen.
template <typename Id>
class ObserverNames {
 public:
  std::string of(const c10::optional<Id>& id, const std::string& tensor) {
    if (!id) return "-";
    return "@" + names_.emplace(*id, tensor).first->second;
  }

 private:
  std::map<Id, std::string> names_;
};

/// Lines in the order of the reference, whoever tells the observers.
template <typename Id, typename OfInput, typename OfResult>
std::vector<std::string> lines(const Json& model, const OfInput& of_input, const OfResult& of_result) {
  ObserverNames<Id> names;
  std::vector<std::string> result;
  for (const auto& entry : model["edges"]) {
    const auto node = entry[0].get<std::string>();
    for (const auto& input : entry[1]) {
      const auto from = input[0].get<std::string>();
      result.push_back(fmt::format("{} reads {} through {}", node, from, names.of(of_input(node, input), from)));
    }
    if (node != "output") result.push_back(fmt::format("{} makes {}", node, names.of(of_result(node, entry[2]), node)));
  }
  return result;
}

/// Observers by place; the members of a unified group are one.
class Observers {
 public:
  Observers(const Annotations& annotations, const GraphView& view) {
    std::map<int64_t, int64_t> root;
    for (const auto& group : annotations.unified_scale_groups) {
      for (const int64_t id : group) root[id] = group.front();
    }
    for (const auto& point : annotations.points) {
      const auto place = std::pair(view.find(point.node)->id, point.input_port.value_or(-1));
      ids_[place] = root.count(point.id) ? root[point.id] : point.id;
    }
  }

  c10::optional<int64_t> at(int64_t node, int64_t port) const {
    const auto found = ids_.find({node, port});
    return found == ids_.end() ? c10::nullopt : c10::make_optional(found->second);
  }

 private:
  std::map<std::pair<int64_t, int64_t>, int64_t> ids_;
};

}  // namespace

const Json& fx_golden() {
  static const Json golden = Json::parse(std::ifstream(data_file("fx/golden.json")));
  return golden;
}

const Json& fx_parameters() {
  static const Json parameters = Json::parse(std::ifstream(data_file("fx/parameters.json")));
  return parameters;
}

bool is_of_the_model(const ViewNode& node) {
  return node.kind == NodeKind::kOperator && (!node.node || !names_of(node.node).name.empty());
}

FxNames::FxNames(const Json& model, const GraphView& view) : model_(model), view_(view) {
  std::vector<const ViewNode*> operators;
  bool has_dropout = false;
  for (const auto& node : view.nodes()) {
    if (!is_of_the_model(node)) continue;
    operators.push_back(&node);
    has_dropout |= node.type == "dropout";
  }
  size_t next = 0;
  for (const auto& json : model["operators"]) {
    const auto name = json.get<std::string>();
    // Conversion removes dropout: what it makes is what it reads.
    const bool is_removed = model.value("dropout", "") == name && !has_dropout;
    if (!is_removed && next == operators.size()) break;
    nodes_[name] = is_removed ? operators.at(next - 1) : operators[next++];
  }
  EXPECT_EQ(next, operators.size());
  EXPECT_EQ(nodes_.size(), model["operators"].size());
}

const ViewNode& FxNames::first(const std::string& name) const {
  const auto found = nodes_.find(name);
  return found != nodes_.end() ? *found->second : *view_.find(name);
}

const ViewNode& FxNames::last(const std::string& name) const {
  return first(model_["ends"].contains(name) ? model_["ends"][name].get<std::string>() : name);
}

fx::QConfigMapping min_max_mapping() { return mapping_of("minmax"); }

fx::QConfigMapping mapping_of(const std::string& configuration) {
  const bool min_max = configuration == "minmax";
  const auto defaults = fx::get_default_qconfig_mapping(min_max ? "x86" : configuration);
  const auto change = [&](fx::OptionalQConfig qconfig) {
    if (qconfig && qconfig->activation.type == ObserverType::kHistogram) {
      if (min_max) qconfig->activation = ObserverConfig();
      qconfig->activation.histogram_rule = HistogramRule::kTorch1_13;
    }
    return qconfig;
  };
  fx::QConfigMapping mapping;
  mapping.set_global(change(defaults.global_qconfig()));
  for (const auto& [type, qconfig] : defaults.object_type_qconfigs()) mapping.set_object_type(type, change(qconfig));
  // Not all defaults have weights of transposed convolutions per tensor.
  auto transposed = mapping.global_qconfig();
  transposed->weight = fx::default_qconfig().weight;
  mapping.set_object_type("conv_transpose2d", transposed);
  return mapping.set_object_type("torch.nn.Embedding", fx::float_qparams_weight_only_qconfig());
}

std::vector<std::string> golden_lines(const Json& model) {
  const auto id = [](const Json& json) {
    return json.is_null() ? c10::nullopt : c10::make_optional(json.get<std::string>());
  };
  return lines<std::string>(
      model, [&](const std::string&, const Json& input) { return id(input[1]); },
      [&](const std::string&, const Json& observer) { return id(observer); });
}

std::vector<std::string> our_lines(const Json& model, const AnnotatedModel& annotated) {
  const GraphView& view = annotated.view();
  const FxNames names(model, view);
  const Observers observers(annotated.annotations(), view);
  const auto of_input = [&](const std::string& node, const Json& input) {
    const ViewNode& to = names.first(node);
    const ViewNode& from = names.last(input[0].get<std::string>());
    for (const int64_t id : to.in_edges) {
      const ViewEdge& edge = view.edge(id);
      if (edge.from != from.id) continue;
      const auto on_edge = observers.at(to.id, edge.input_port);
      return on_edge ? on_edge : observers.at(from.id, -1);
    }
    ADD_FAILURE() << node << " does not read " << input[0];
    return c10::optional<int64_t>();
  };
  const auto of_result = [&](const std::string& node, const Json&) {
    const ViewNode& from = names.last(node);
    auto found = observers.at(from.id, -1);
    for (const int64_t id : from.out_edges) {
      if (!found) found = observers.at(view.edge(id).to, view.edge(id).input_port);
    }
    return found;
  };
  return lines<int64_t>(model, of_input, of_result);
}

std::vector<std::string> differences(const std::vector<std::string>& golden, const std::vector<std::string>& ours) {
  std::vector<std::string> result;
  for (size_t i = 0; i < std::max(golden.size(), ours.size()); ++i) {
    if (i < golden.size() && i < ours.size() && golden[i] == ours[i]) continue;
    if (i < golden.size()) result.push_back("- " + golden[i]);
    if (i < ours.size()) result.push_back("+ " + ours[i]);
  }
  return result;
}

}  // namespace tsquant::testing
