#include "fx_golden.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>

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

/// The view's nodes by FX's names.
class FxNames {
 public:
  FxNames(const Json& model, const GraphView& view) : model_(model), view_(view) {
    std::vector<const ViewNode*> operators;
    for (const auto& node : view.nodes()) {
      if (node.kind == NodeKind::kOperator) operators.push_back(&node);
    }
    const auto& names = model["operators"];
    EXPECT_EQ(operators.size(), names.size());
    for (size_t i = 0; i < std::min(names.size(), operators.size()); ++i) {
      nodes_[names[i].get<std::string>()] = operators[i];
    }
  }

  const ViewNode& first(const std::string& name) const {
    const auto found = nodes_.find(name);
    return found != nodes_.end() ? *found->second : *view_.find(name);
  }

  /// Of operators that FX fuses before it observes.
  const ViewNode& last(const std::string& name) const {
    return first(model_["ends"].contains(name) ? model_["ends"][name].get<std::string>() : name);
  }

 private:
  const Json& model_;
  const GraphView& view_;
  std::map<std::string, const ViewNode*> nodes_;
};

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

fx::QConfigMapping min_max_mapping() {
  const auto defaults = fx::get_default_qconfig_mapping("x86");
  const auto change = [](fx::OptionalQConfig qconfig) {
    if (qconfig && qconfig->activation.type == ObserverType::kHistogram) qconfig->activation = ObserverConfig();
    return qconfig;
  };
  fx::QConfigMapping mapping;
  mapping.set_global(change(defaults.global_qconfig()));
  for (const auto& [type, qconfig] : defaults.object_type_qconfigs()) mapping.set_object_type(type, change(qconfig));
  return mapping;
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
