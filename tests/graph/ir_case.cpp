#include "ir_case.h"

#include <torch/csrc/jit/ir/irparser.h>

#include <fstream>
#include <sstream>
#include <stdexcept>

namespace tsquant::testing {

namespace {

std::vector<int64_t> numbers(const std::string& text) {
  std::istringstream stream(text);
  std::vector<int64_t> values;
  for (int64_t value; stream >> value;) values.push_back(value);
  return values;
}

/// Reads "# KEY: value"; false for other lines.
bool directive(const std::string& line, const std::string& key, std::string& value) {
  const std::string start = "# " + key;
  if (line.compare(0, start.size(), start) != 0) return false;
  value = line.substr(start.size());
  value.erase(0, value.find_first_not_of(": "));
  return true;
}

std::pair<std::string, std::string> name_and_value(const std::string& text) {
  const auto colon = text.find(':');
  if (colon == std::string::npos) throw std::runtime_error("expected name: value in " + text);
  return {text.substr(0, colon), text.substr(text.find_first_not_of(' ', colon + 1))};
}

std::string class_name() {
  static int counter = 0;
  return "__torch__.IrCase" + std::to_string(counter++);
}

void add_attribute(torch::jit::Module& module, const std::string& name, const std::string& text) {
  if (text == "true" || text == "false") {
    module.register_attribute(name, c10::BoolType::get(), text == "true");
  } else if (text == "none") {
    module.register_attribute(name, c10::OptionalType::ofTensor(), c10::IValue());
  } else if (text.find(' ') != std::string::npos) {
    module.register_attribute(name, c10::ListType::ofInts(), numbers(text));
  } else {
    module.register_attribute(name, c10::IntType::get(), static_cast<int64_t>(std::stoll(text)));
  }
}

}  // namespace

IrCase read_ir_case(const std::string& path) {
  std::ifstream file(path);
  IrCase result;
  for (std::string line, value; std::getline(file, line);) {
    result.text += line + "\n";
    if (line.empty() || line[0] != '#') {
      result.ir += line + "\n";
    } else if (directive(line, "RUN", value)) {
      result.pass = value;
    } else if (directive(line, "PARAM", value)) {
      const auto [name, shape] = name_and_value(value);
      result.params.emplace_back(name, numbers(shape));
    } else if (directive(line, "ATTR", value)) {
      result.attributes.push_back(name_and_value(value));
    } else if (directive(line, "INPUT", value)) {
      result.inputs.push_back(value);
    } else if (directive(line, "UNCHANGED", value)) {
      result.unchanged = true;
    }
  }
  return result;
}

torch::jit::Module module_of(const IrCase& ir_case) {
  torch::manual_seed(1);
  torch::jit::Module module(class_name());
  for (const auto& [name, shape] : ir_case.params) {
    const bool positive = name.find("var") != std::string::npos;
    module.register_parameter(name, positive ? torch::rand(shape) + 0.5 : torch::randn(shape), false);
  }
  for (const auto& [name, value] : ir_case.attributes) add_attribute(module, name, value);
  auto graph = std::make_shared<torch::jit::Graph>();
  torch::jit::parseIR(ir_case.ir, graph.get());
  graph->inputs()[0]->setType(module.type());
  auto* function = module._ivalue()->compilation_unit()->create_function(
      c10::QualifiedName(*module.type()->name(), "forward"), graph);
  module.type()->addMethod(function);
  return module;
}

std::vector<c10::IValue> inputs_of(const IrCase& ir_case) {
  torch::manual_seed(2);
  std::vector<c10::IValue> inputs;
  for (const auto& text : ir_case.inputs) {
    if (text.compare(0, 4, "bool") == 0) {
      inputs.emplace_back(text == "bool true");
    } else {
      inputs.emplace_back(torch::randn(numbers(text)));
    }
  }
  return inputs;
}

}  // namespace tsquant::testing
