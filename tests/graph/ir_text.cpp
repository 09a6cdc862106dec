#include "ir_text.h"

#include <fmt/format.h>

#include <unordered_map>

#include "graph/params.h"

namespace tsquant::testing {

namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

/// Type and shape; the values of what is as short as a bias.
std::string text_of(const at::Tensor& tensor) {
  const std::string type = at::toString(tensor.scalar_type());
  if (tensor.numel() == 0 || tensor.numel() > 4 || tensor.dim() > 1 || tensor.is_quantized()) {
    return fmt::format("{} [{}]", type, fmt::join(tensor.sizes(), ", "));
  }
  const at::Tensor values = tensor.detach().to(at::kDouble).contiguous();
  const auto* first = values.data_ptr<double>();
  std::vector<std::string> numbers;
  for (int64_t i = 0; i < values.numel(); ++i) numbers.push_back(fmt::format("{:.3g}", first[i]));
  return fmt::format("{} {{{}}}", type, fmt::join(numbers, ", "));
}

std::string text_of(const c10::IValue& value) {
  if (value.isTensor()) return value.toTensor().defined() ? text_of(value.toTensor()) : "None";
  if (value.isDouble()) return fmt::format("{}", value.toDouble());
  if (value.isBool()) return value.toBool() ? "True" : "False";
  if (value.isInt()) return fmt::format("{}", value.toInt());
  if (value.isNone()) return "None";
  if (value.isString()) return fmt::format("\"{}\"", value.toStringRef());
  if (!value.isList()) return fmt::format("{}", value.tagKind());
  std::vector<std::string> elements;
  for (const c10::IValue& element : value.toListRef()) elements.push_back(text_of(element));
  return fmt::format("[{}]", fmt::join(elements, ", "));
}

class Printer {
 public:
  explicit Printer(const Model& model) : model_(model) {
    for (const auto& parameter : model.module().named_parameters()) add_tensor(parameter.name, parameter.value);
    for (const auto& buffer : model.module().named_buffers()) add_tensor(buffer.name, buffer.value);
    print(model.graph()->block(), "");
    text_ += "return " + join(model.graph()->outputs()) + "\n";
  }

  const std::string& text() const { return text_; }

 private:
  void add_tensor(const std::string& name, const at::Tensor& tensor) {
    text_ += fmt::format("{}: {}\n", name, text_of(tensor));
  }

  void print(const Block* block, const std::string& indent) {
    for (const Node* node : block->nodes()) {
      if (stands_where_it_is_read(node)) continue;
      text_ += indent;
      if (!node->outputs().empty()) text_ += join(node->outputs()) + " = ";
      text_ += fmt::format("{}({})\n", node->kind().toQualString(), join(node->inputs()));
      for (const Block* inner : node->blocks()) {
        text_ += fmt::format("{}  block({}):\n", indent, join(inner->inputs()));
        print(inner, indent + "    ");
        text_ += fmt::format("{}    -> {}\n", indent, join(inner->outputs()));
      }
    }
  }

  static bool stands_where_it_is_read(const Node* node) {
    return node->kind() == c10::prim::Constant || node->kind() == c10::prim::GetAttr ||
           node->kind() == c10::prim::ListConstruct;
  }

  template <class Values>
  std::string join(const Values& values) {
    std::vector<std::string> names;
    for (const Value* value : values) names.push_back(name_of(value));
    return fmt::format("{}", fmt::join(names, ", "));
  }

  std::string name_of(const Value* value) {
    const Node* node = value->node();
    if (node->kind() == c10::prim::Constant) return text_of(*torch::jit::toIValue(value));
    if (node->kind() == c10::prim::ListConstruct) return "[" + join(node->inputs()) + "]";
    if (node->kind() == c10::prim::GetAttr) {
      const auto slot = slot_of(model_, value);
      return slot ? slot->path : "?." + node->s(c10::attr::name);
    }
    if (value->hasDebugName()) return "%" + value->debugName();
    return "%" + std::to_string(numbers_.emplace(value, numbers_.size()).first->second);
  }

  const Model& model_;
  std::string text_;
  std::unordered_map<const Value*, size_t> numbers_;
};

}  // namespace

std::string ir_text(const Model& model) { return Printer(model).text(); }

}  // namespace tsquant::testing
