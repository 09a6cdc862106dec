#include "flows/prepare/prepared_record.h"

#include <fmt/format.h>

#include "graph/attribute_slots.h"
#include "graph/node_lists.h"
#include "graph/tensor_values.h"
#include "io/json_text.h"
#include "quantizers/annotation_record.h"
#include "tsquant/error.h"
#include "tsquant/prepare_pt2e.h"

namespace tsquant {

namespace {

using Json = nlohmann::json;
using torch::jit::Module;
using torch::jit::Node;

constexpr const char* kRecord = "tsquant_prepared";
constexpr const char* kExample = "tsquant_example_inputs";
constexpr int kVersion = 1;

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, what, "prepared model",
              "give the module that prepare_pt2e, prepare_qat_pt2e, prepare_fx or prepare_qat_fx returned, calibrated "
              "or trained but not edited");
}

/// The last element is there because types of empty tuples cannot be written.
c10::IValue example_tuple(const Sample& example, std::vector<std::string>& keywords) {
  std::vector<c10::IValue> values = example.args;
  for (const auto& [name, value] : example.kwargs) {
    keywords.push_back(name);
    values.push_back(value);
  }
  values.emplace_back(static_cast<int64_t>(values.size()));
  return c10::ivalue::Tuple::create(std::move(values));
}

Sample read_example(const c10::IValue& tuple, const std::vector<std::string>& keywords) {
  const auto& values = tuple.toTupleRef().elements();
  Sample example;
  const size_t positional = values.size() - 1 - keywords.size();
  for (size_t i = 0; i < positional; ++i) example.args.push_back(values[i]);
  for (size_t i = 0; i < keywords.size(); ++i) example.kwargs.emplace(keywords[i], values[positional + i]);
  return example;
}

PreparedRecord read(const std::string& text, const c10::IValue& example) {
  const Json json = parse_json<Json>(text);
  if (json.at("version").get<int>() != kVersion) refuse("the model was prepared by another version");
  PreparedRecord record;
  record.is_qat = json.at("is_qat").get<bool>();
  record.annotations = read_annotation_record(json.at("annotations"));
  for (const auto& [id, name] : json.at("observers").items()) record.observers[std::stoll(id)] = name;
  record.names = json.at("names").get<std::vector<std::string>>();
  record.options = json.at("options").get<std::map<std::string, std::string>>();
  record.warnings = json.at("warnings").get<std::vector<std::string>>();
  record.float_bytes = json.at("float_bytes").get<int64_t>();
  record.io.inputs = json.at("quantized_inputs").get<std::vector<int64_t>>();
  record.io.output = json.at("quantized_output").get<bool>();
  for (const auto& custom : json.at("custom_modules")) {
    record.custom_modules.push_back({custom.at(0).get<std::string>(), custom.at(1).get<std::string>(),
                                     custom.at(2).get<std::string>(), custom.at(3).get<std::vector<std::string>>()});
  }
  record.example = read_example(example, json.at("keywords").get<std::vector<std::string>>());
  return record;
}

/// The nodes that have names.
std::vector<Node*> named_nodes(const Model& model) {
  const SizeArithmetic sizes(*model.graph());
  std::vector<Node*> nodes;
  for (Node* node : all_nodes(model.graph()->block())) {
    if (role_of(node, sizes) != NodeRole::kNone) nodes.push_back(node);
  }
  return nodes;
}

}  // namespace

void attach_record(Module& module, const PreparedRecord& record) {
  std::vector<std::string> keywords;
  const c10::IValue example = example_tuple(record.example, keywords);
  Json json{{"version", kVersion},
            {"is_qat", record.is_qat},
            {"annotations", annotation_record(record.annotations)},
            {"observers", Json::object()},
            {"names", record.names},
            {"options", record.options},
            {"warnings", record.warnings},
            {"float_bytes", record.float_bytes},
            {"quantized_inputs", record.io.inputs},
            {"quantized_output", record.io.output},
            {"custom_modules", Json::array()},
            {"keywords", keywords}};
  for (const auto& [id, name] : record.observers) json["observers"][std::to_string(id)] = name;
  for (const auto& custom : record.custom_modules) {
    json["custom_modules"].push_back({custom.attribute, custom.path, custom.kind, custom.calls});
  }
  module.register_attribute(kRecord, c10::StringType::get(), json.dump());
  module.register_attribute(kExample, example.type(), example);
}

bool is_prepared(const Module& module) {
  return module.hasattr(kRecord) && module.attr(kRecord).isString() && module.hasattr(kExample) &&
         module.attr(kExample).isTuple();
}

PreparedRecord take_record(Module& module) {
  if (!is_prepared(module)) refuse("the module was not prepared for quantization");
  PreparedRecord record;
  try {
    record = read(module.attr(kRecord).toStringRef(), module.attr(kExample));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    refuse(std::string("its record of quantizers cannot be read: ") + error.what());
  }
  remove_attribute(module, kRecord);
  remove_attribute(module, kExample);
  return record;
}

std::vector<std::string> operator_names(const Model& model) {
  std::vector<std::string> names;
  for (Node* node : named_nodes(model)) {
    names.push_back(fmt::format("{} {}", node->kind().toQualString(), node->scopeName()));
  }
  return names;
}

void restore_operator_names(Model& model, const std::vector<std::string>& names) {
  const auto nodes = named_nodes(model);
  if (nodes.size() != names.size()) {
    refuse(fmt::format("the graph has {} operators, {} were prepared", nodes.size(), names.size()));
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    const std::string kind = nodes[i]->kind().toQualString();
    const size_t end = names[i].find(' ');
    if (names[i].substr(0, end) != kind) {
      refuse(fmt::format("operator {} of the graph is {}, {} was prepared", i, kind, names[i].substr(0, end)));
    }
    auto scope = c10::make_intrusive<torch::jit::Scope>();
    if (end + 1 < names[i].size()) scope = scope->push(c10::Symbol::scope(names[i].substr(end + 1)));
    nodes[i]->setScope(scope);
  }
}

}  // namespace tsquant
