#include "golden_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "support/support.h"

namespace tsquant::testing {

using nlohmann::json;
using openvino::PlacementGraph;
using openvino::PlacementKind;

std::vector<std::string> golden_models() {
  std::vector<std::string> models;
  for (const auto& entry : std::filesystem::directory_iterator(data_file("placement"))) {
    if (entry.path().extension() == ".json") models.push_back(entry.path().stem().string());
  }
  std::sort(models.begin(), models.end());
  return models;
}

json load_golden(const std::string& model) {
  std::ifstream file(data_file("placement/" + model + ".json"));
  return json::parse(file);
}

PlacementGraph make_graph(const json& golden, std::vector<std::string>* mismatches) {
  PlacementGraph graph;
  for (const auto& node : golden["nodes"]) {
    const std::string name = node[0], type = node[1], metatype = node[2];
    auto kind = PlacementKind::kOperator;
    if (metatype == "PTInputNoopMetatype") kind = PlacementKind::kInput;
    if (metatype == "PTConstNoopMetatype") kind = PlacementKind::kConstant;
    if (metatype == "PTOutputNoopMetatype") kind = PlacementKind::kOutput;
    int row = openvino::metatype_index(metatype);
    const bool by_name = kind == PlacementKind::kOperator && metatype.find("AtenEmbedding") == std::string::npos;
    if (by_name) row = openvino::metatype_index(find_op(type, metatype.find("Depthwise") != std::string::npos));
    if (mismatches && (row < 0 || openvino::metatype_row(row).metatype != metatype)) mismatches->push_back(name);
    graph.add_node(kind, graph.keep(name), row);
  }
  for (const auto& edge : golden["edges"]) {
    const int id = graph.add_edge(edge[0], edge[1], edge[3], edge[2]);
    const auto& shape = golden["nodes"][edge[0].get<size_t>()][3];
    if (!shape.is_null()) graph.edges[id].shape = graph.keep(shape.get<std::vector<int64_t>>());
  }
  return graph;
}

OpenVINOQuantizerOptions make_options(const json& options) {
  OpenVINOQuantizerOptions result;
  if (options.contains("preset") && options["preset"] == "mixed") result.preset = QuantizationPreset::kMixed;
  if (options.contains("model_type")) result.model_type = ModelType::kTransformer;
  if (options.contains("quantize_outputs")) result.quantize_outputs = true;
  if (options.contains("quantizer_propagation_rule")) {
    const int rule = std::stoi(options["quantizer_propagation_rule"].get<std::string>());
    result.quantizer_propagation_rule = static_cast<QuantizerPropagationRule>(rule);
  }
  return result;
}

namespace {

std::string group_line(std::vector<int> ids) {
  std::sort(ids.begin(), ids.end());
  return fmt::format("group {}", fmt::join(ids, " "));
}

}  // namespace

std::vector<std::string> describe(const PlacementGraph& graph, const openvino::Setup& setup) {
  std::vector<std::string> lines;
  for (const auto& point : setup.points) {
    const auto& config = point.config();
    const bool weight = point.kind == PointKind::kWeight;
    const std::string sign = config.signedness_to_force ? (*config.signedness_to_force ? "signed" : "unsigned") : "any";
    lines.push_back(fmt::format("{} {} {} port {}: {} bits {} {} per_channel {} narrow {}", point.id,
                                weight ? "weight" : "activation", graph.name_of(point.node), point.port,
                                config.num_bits,
                                config.mode == QuantizationScheme::kSymmetric ? "symmetric" : "asymmetric", sign,
                                config.per_channel, config.narrow_range));
  }
  for (const auto& group : setup.unified_groups) lines.push_back(group_line(group));
  std::sort(lines.begin(), lines.end());
  return lines;
}

std::vector<std::string> describe(const json& setup) {
  std::vector<std::string> lines;
  for (const auto& point : setup["points"]) {
    const auto& config = point[4];
    const std::string sign = config[2].is_null() ? "any" : (config[2].get<bool>() ? "signed" : "unsigned");
    lines.push_back(fmt::format("{} {} {} port {}: {} bits {} {} per_channel {} narrow {}", point[0].get<int>(),
                                point[1].get<std::string>(), point[2].get<std::string>(),
                                point[3].is_null() ? -1 : point[3].get<int>(), config[0].get<int>(),
                                config[1].get<std::string>(), sign, config[3].get<bool>(), config[4].get<bool>()));
  }
  for (const auto& group : setup["groups"]) {
    if (group.size() > 1) lines.push_back(group_line(group.get<std::vector<int>>()));
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

int GraphMaker::input(const std::string& name) {
  return graph.add_node(PlacementKind::kInput, graph.keep(name), openvino::metatype_index("PTInputNoopMetatype"));
}

int GraphMaker::constant(const std::string& name) {
  return graph.add_node(PlacementKind::kConstant, graph.keep(name), openvino::metatype_index("PTConstNoopMetatype"));
}

int GraphMaker::op(const std::string& function, const std::vector<int>& arguments, const std::string& name) {
  const int node = graph.add_node(PlacementKind::kOperator, graph.keep(name.empty() ? function : name),
                                  openvino::metatype_index(find_op(function)));
  for (size_t i = 0; i < arguments.size(); ++i) graph.add_edge(arguments[i], node, static_cast<int>(i));
  return node;
}

int GraphMaker::weighted(const std::string& function, int x, const std::string& name) {
  const int weight = constant((name.empty() ? function : name) + ".weight");
  return op(function, {x, weight}, name);
}

void GraphMaker::output(const std::vector<int>& values) {
  const int node = graph.add_node(PlacementKind::kOutput, graph.keep(std::string("output")),
                                  openvino::metatype_index("PTOutputNoopMetatype"));
  for (size_t i = 0; i < values.size(); ++i) graph.add_edge(values[i], node, static_cast<int>(i));
}

openvino::Placement place(const PlacementGraph& graph, const OpenVINOQuantizerOptions& options) {
  return openvino::place_quantizers(graph, options, std::vector<bool>(graph.nodes.size(), false));
}

}  // namespace tsquant::testing
