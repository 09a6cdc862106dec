#include "quantizers/fx/object_type.h"

#include <fmt/format.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "base/nearest.h"
#include "graph/op_table.h"
#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

using Kind = ObjectType::Kind;

bool starts_with(const std::string& text, const std::string& prefix) { return text.rfind(prefix, 0) == 0; }

/// The operators of LibTorch have these names too.
bool is_known(const std::string& name) {
  const auto exists = [](const std::string& aten) {
    return !torch::jit::getAllOperatorsFor(c10::Symbol::fromQualString("aten::" + aten)).empty();
  };
  return name == "interpolate" || exists(name) || exists(name + "_") || find_op(name).metatype != "UnknownMetatype";
}

void require_known(const std::string& name, const std::string& place) {
  if (is_known(name)) return;
  std::vector<std::string> known;
  for (const auto& row : op_table()) known.insert(known.end(), row.functions.begin(), row.functions.end());
  throw Error(ErrorCode::kInvalidArgument, fmt::format("LibTorch has no operator \"{}\"", name), place,
              fmt::format("closest: {}; classes of modules begin with a capital letter",
                          fmt::join(nearest(name, known), ", ")));
}

std::string last_part(const std::string& text) { return text.substr(text.rfind('.') + 1); }

}  // namespace

std::string operator_name(const std::string& function) {
  std::string name = function;
  if (name.size() > 1 && name.back() == '_' && name.front() != '_') name.pop_back();
  return starts_with(name, "upsample_") ? "interpolate" : name;
}

ObjectType parse_object_type(const std::string& text, const std::string& place) {
  for (const std::string prefix : {"torch.ops.aten.", "aten."}) {  // with or without an overload
    if (!starts_with(text, prefix)) continue;
    const std::string rest = text.substr(prefix.size());
    return parse_object_type("aten::" + rest.substr(0, rest.find('.')), place);
  }
  const std::string last = last_part(text);
  if (last.empty()) throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is no object type", text), place);
  if (std::isupper(static_cast<unsigned char>(last.front()))) {
    return {Kind::kClass, starts_with(text, "torch.nn.") ? "torch.nn." + last : text};
  }
  const size_t colons = text.find("::");
  if (colons != std::string::npos && !starts_with(text, "aten::")) {
    return {Kind::kOperator, operator_name(text.substr(colons + 2))};
  }
  const std::string name = operator_name(colons == std::string::npos ? last : text.substr(colons + 2));
  require_known(name, place);
  return {text.find('.') == std::string::npos ? Kind::kOperator : Kind::kFunction, name};
}

bool is_class(const std::string& qualified, const std::string& name) {
  if (qualified == name) return true;
  if (starts_with(name, "torch.nn.")) {
    return starts_with(qualified, "torch.nn.") && last_part(qualified) == last_part(name);
  }
  return qualified.size() > name.size() && qualified[qualified.size() - name.size() - 1] == '.' &&
         qualified.compare(qualified.size() - name.size(), name.size(), name) == 0;
}

bool is_layer_class(const std::string& qualified) {
  return starts_with(qualified, "torch.nn.modules.") && last_part(qualified) != "Sequential";
}

}  // namespace tsquant::fx
