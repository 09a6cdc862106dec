#include "flows/non_float32_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "graph/params.h"

namespace tsquant {

namespace {

constexpr const char* kAdvice = "convert the model with .float() before saving it";

std::string type_name(c10::ScalarType type) {
  switch (type) {
    case c10::kDouble:
      return "float64";
    case c10::kHalf:
      return "float16";
    case c10::kBFloat16:
      return "bfloat16";
    default:
      return c10::toString(type);
  }
}

/// The type that is in the way; empty for float32, integers and unknown tensors.
std::string other_float_type(const GraphView& view, const QuantizationPoint& point) {
  const ViewNode* node = view.find(point.node);
  if (!node) return "";
  const ViewEdge* edge = point.input_port ? view.input_edge(*node, *point.input_port) : nullptr;
  if (point.input_port && !edge) return "";
  const TensorInfo& info = edge ? edge->info : node->info;
  if (info.known) return info.is_floating() && info.dtype != c10::kFloat ? type_name(info.dtype) : "";
  const auto param = edge ? param_of(view.model(), edge->value) : c10::nullopt;
  const bool other = param && param->tensor.is_floating_point() && param->tensor.scalar_type() != c10::kFloat;
  return other ? type_name(param->tensor.scalar_type()) : "";
}

}  // namespace

std::vector<std::string> drop_other_float_types(const GraphView& view, Annotations& annotations) {
  std::set<std::string> types;
  std::set<int64_t> dropped;
  std::map<std::string, Refusal> refused;
  for (const auto& point : annotations.points) {
    const std::string type = other_float_type(view, point);
    if (type.empty()) continue;
    types.insert(type);
    dropped.insert(point.id);
    for (const auto& name : point.quantized_nodes) {
      refused.emplace(name, Refusal{name, "not_float32", fmt::format("reads {} tensors; {}", type, kAdvice)});
    }
  }
  if (dropped.empty()) return {};
  // The other arguments of these operators need no quantizer either.
  std::set<std::string> operators;
  for (const auto& entry : refused) operators.insert(entry.first);
  remove_operators(annotations, operators);
  remove_points(annotations, dropped);
  // This reason is more precise than what the quantizer may have said about the same operator.
  auto& refusals = annotations.refusals;
  refusals.erase(
      std::remove_if(refusals.begin(), refusals.end(), [&](const auto& r) { return operators.count(r.node) > 0; }),
      refusals.end());
  for (const auto& entry : refused) refusals.push_back(entry.second);
  return {types.begin(), types.end()};
}

std::string float_type_warning(const std::vector<std::string>& types) {
  return fmt::format("{} tensors stay in float, only float32 can be quantized: {}", fmt::join(types, " and "), kAdvice);
}

void refuse_float_types(const std::vector<std::string>& types) {
  throw Error(ErrorCode::kUnsupportedModel,
              fmt::format("nothing in this model could be quantized: its tensors are {}, only float32 can be quantized",
                          fmt::join(types, " and ")),
              "forward", kAdvice);
}

void rethrow_with_float_types(const Model& model, const Error& error) {
  std::set<std::string> types;
  bool has_float32 = false;
  for (const auto& parameter : model.module().parameters()) {
    if (!parameter.is_floating_point()) continue;
    has_float32 = has_float32 || parameter.scalar_type() == c10::kFloat;
    types.insert(type_name(parameter.scalar_type()));
  }
  if (error.code() != ErrorCode::kDataset || has_float32 || types.empty()) throw error;
  throw Error(ErrorCode::kUnsupportedModel,
              fmt::format("the model has {} parameters, only float32 can be quantized, and it does not run: {}",
                          fmt::join(types, " and "), error.message()),
              error.place(), kAdvice);
}

}  // namespace tsquant
