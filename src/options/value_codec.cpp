#include "options/value_codec.h"

namespace tsquant {

using nlohmann::json;

json ValueCodec<std::vector<IgnoredScope::Subgraph>>::write(const std::vector<IgnoredScope::Subgraph>& subgraphs) {
  json list = json::array();
  for (const auto& subgraph : subgraphs) list.push_back({{"inputs", subgraph.inputs}, {"outputs", subgraph.outputs}});
  return list;
}

void ValueCodec<std::vector<IgnoredScope::Subgraph>>::read(const json& list,
                                                           std::vector<IgnoredScope::Subgraph>& subgraphs) {
  subgraphs.clear();
  for (const auto& entry : list) {
    subgraphs.push_back(
        {entry.at("inputs").get<std::vector<std::string>>(), entry.at("outputs").get<std::vector<std::string>>()});
  }
}

json ValueCodec<std::vector<IgnoredScope::Subgraph>>::schema() {
  const json names{{"type", "array"}, {"items", {{"type", "string"}}}};
  return {{"type", "array"},
          {"items",
           {{"type", "object"},
            {"additionalProperties", false},
            {"required", {"inputs", "outputs"}},
            {"properties", {{"inputs", names}, {"outputs", names}}}}}};
}

void ValueCodec<std::map<std::string, std::string>>::read(const json& object,
                                                          std::map<std::string, std::string>& entries) {
  for (const auto& [key, value] : object.items()) {
    entries[key] = value.is_string() ? value.get<std::string>() : value.dump();
  }
}

json ValueCodec<std::map<std::string, std::string>>::schema() {
  return {{"type", "object"}, {"additionalProperties", {{"type", {"string", "boolean"}}}}};
}

}  // namespace tsquant
