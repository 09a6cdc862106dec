#include "ir_case.h"

#include <torch/csrc/jit/ir/irparser.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "graph/params.h"

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

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> found;
  for (std::string word; stream >> word;) found.push_back(word);
  return found;
}

/// "w copy:w": a parameter, and a tensor of its own with the same values.
c10::List<at::Tensor> tensor_list(const torch::jit::Module& module, const std::string& names) {
  const std::string copy = "copy:";
  c10::List<at::Tensor> tensors;
  for (const auto& name : words(names)) {
    const bool is_copy = name.rfind(copy, 0) == 0;
    const at::Tensor tensor = module.attr(is_copy ? name.substr(copy.size()) : name).toTensor();
    tensors.push_back(is_copy ? tensor.clone() : tensor);
  }
  return tensors;
}

void add_attribute(torch::jit::Module& module, const std::string& name, const std::string& text) {
  if (text == "true" || text == "false") {
    module.register_attribute(name, c10::BoolType::get(), text == "true");
  } else if (text == "none") {
    module.register_attribute(name, c10::OptionalType::ofTensor(), c10::IValue());
  } else if (text[0] == '[') {
    module.register_attribute(name, c10::ListType::ofTensors(), tensor_list(module, text.substr(1, text.size() - 2)));
  } else if (text.find(' ') != std::string::npos) {
    module.register_attribute(name, c10::ListType::ofInts(), numbers(text));
  } else {
    module.register_attribute(name, c10::IntType::get(), static_cast<int64_t>(std::stoll(text)));
  }
}

constexpr const char* kExpected = "#= ";

/// One "#" line. @return false for an unknown directive, such as FileCheck's
bool read_directive(const std::string& line, IrCase& result) {
  std::string value;
  if (directive(line, "RUN", value)) {
    result.rewrite = value;
  } else if (directive(line, "AFTER", value)) {
    result.after = words(value);
  } else if (directive(line, "PARAM", value)) {
    const auto [name, shape] = name_and_value(value);
    result.params.emplace_back(name, numbers(shape));
  } else if (directive(line, "ATTR", value)) {
    result.attributes.push_back(name_and_value(value));
  } else if (directive(line, "INPUT", value)) {
    result.inputs.push_back(value);
  } else if (directive(line, "POINT", value)) {
    result.points.push_back(value);
  } else if (directive(line, "NO_FOLD", value)) {
    result.fold = false;
  } else if (directive(line, "COMPRESS", value)) {
    result.compress = value;
  } else if (directive(line, "TRAINABLE", value)) {
    result.trainable = std::stoll(value);
  } else if (directive(line, "ENGINE", value)) {
    result.engine = value;
  } else if (directive(line, "KEEP", value)) {
    result.kept.push_back(value);
  } else if (directive(line, "WITHIN", value)) {
    result.within = std::stod(value);
  } else if (directive(line, "FAILS_BEFORE", value)) {
    result.fails_before = true;
  } else if (directive(line, "UNCHANGED", value)) {
    result.unchanged = true;
  } else if (directive(line, "REPORT", value)) {
    result.reports.push_back(name_and_value(value));
  } else {
    return false;
  }
  return true;
}

/// What is for storage: "quint8 float [levels 0 15]", by row, and "float16".
QParams stored_qparams(const std::vector<std::string>& words, const at::Tensor& weight) {
  QuantizationSpec spec;
  spec.formula = QParamsFormula::kTorchAo;
  spec.dtype = c10::kHalf;
  if (words.at(0) == "float16") return choose_qparams({weight.min(), weight.max()}, spec, PointKind::kWeight);
  spec.dtype = c10::kByte;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.per_channel = spec.float_zero_point = true;
  if (words.size() > 2) spec.format = Format::kInt4;
  const at::Tensor rows = weight.flatten(1);
  return choose_qparams({rows.amin(1), rows.amax(1)}, spec, PointKind::kWeight);
}

/// "quint8 0.125 0 levels 0 127", "qint8 axis 0", "quint8 scales 0.5 0.25" or "quint8 dynamic". @param weight of an
/// axis
QParams qparams_of(const std::vector<std::string>& spec, const at::Tensor& weight) {
  if (spec.at(0) == "float16" || spec.at(1) == "float") return stored_qparams(spec, weight);
  QParams q;
  q.dtype = spec.at(0) == "quint8" ? c10::kByte : c10::kChar;
  q.quant_min = q.dtype == c10::kByte ? 0 : -128;
  q.quant_max = q.quant_min + 255;
  const auto levels = std::find(spec.begin(), spec.end(), "levels");
  if (levels != spec.end()) {
    q.quant_min = std::stoll(levels[1]);
    q.quant_max = std::stoll(levels[2]);
  }
  q.is_dynamic = spec.at(1) == "dynamic";
  if (q.is_dynamic) {
    q.scale = at::ones({1});
    q.zero_point = at::zeros({1}, at::kLong);
    return q;
  }
  if (spec.at(1) == "scales") {
    std::vector<double> scales;
    for (size_t i = 2; i < spec.size(); ++i) scales.push_back(std::stod(spec[i]));
    q.per_channel = true;
    q.axis = 1;
    q.scale = at::tensor(scales, at::kFloat);
    q.zero_point = at::zeros({q.scale.numel()}, at::kLong);
    return q;
  }
  q.per_channel = spec.at(1) == "axis";
  if (!q.per_channel) {
    q.scale = at::full({1}, std::stod(spec.at(1)), at::kFloat);
    q.zero_point = at::full({1}, static_cast<int64_t>(std::stoll(spec.at(2))), at::kLong);
    return q;
  }
  q.axis = std::stoll(spec.at(2));
  q.scale = weight.transpose(0, q.axis).flatten(1).abs().amax(1) / static_cast<double>(q.quant_max);
  q.zero_point = at::zeros({weight.size(q.axis)}, at::kLong);
  return q;
}

}  // namespace

IrCase read_ir_case(const std::string& path) {
  std::ifstream file(path);
  IrCase result;
  for (std::string line; std::getline(file, line);) {
    result.text += line + "\n";
    if (line.rfind(kExpected, 0) == 0) {
      result.expected += line.substr(std::string(kExpected).size()) + "\n";
    } else if (line.empty() || line[0] != '#') {
      result.ir += line + "\n";
    } else if (!read_directive(line, result) && line.rfind("# CHECK", 0) != 0) {
      throw std::runtime_error(path + ": unknown directive: " + line);
    }
  }
  return result;
}

void rewrite_expected(const std::string& path, const std::string& expected) {
  const IrCase old = read_ir_case(path);
  std::istringstream lines(old.text), wanted(expected);
  std::string text, body;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(kExpected, 0) == 0) continue;
    (line.empty() || line[0] != '#' ? body : text) += line + "\n";
  }
  for (std::string line; std::getline(wanted, line);) text += kExpected + line + "\n";
  std::ofstream(path) << text << body;
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

Annotations annotations_of(const IrCase& ir_case, const GraphView& view, QParamTable& qparams) {
  Annotations annotations;
  for (const auto& text : ir_case.points) {
    const auto parts = words(text);
    QuantizationPoint point;
    point.id = static_cast<int64_t>(annotations.points.size()) + 1;
    point.node = parts.at(0);
    if (parts.at(1) != "out") point.input_port = std::stoll(parts.at(1));
    const ViewNode* node = view.find(point.node);
    if (!node) throw std::runtime_error("no operator " + point.node);
    const ViewEdge* edge = point.input_port ? view.input_edge(*node, *point.input_port) : nullptr;
    const auto weight = edge ? param_of(view.model(), edge->value) : c10::nullopt;
    point.kind = weight ? PointKind::kWeight : PointKind::kActivation;
    qparams[point.id] = qparams_of({parts.begin() + 2, parts.end()}, weight ? weight->tensor : at::Tensor());
    annotations.points.push_back(point);
  }
  return annotations;
}

}  // namespace tsquant::testing
