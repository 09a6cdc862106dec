#include "flows/float_weights.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "graph/node_lists.h"
#include "graph/params.h"

namespace tsquant {

namespace {

void add_readers(const torch::jit::Value* value, std::set<std::string>& readers) {
  for (const auto& use : value->uses()) {
    if (use.user->kind() == c10::prim::ListConstruct) {
      add_readers(use.user->output(), readers);
    } else {
      readers.insert(use.user->kind().toQualString());
    }
  }
}

}  // namespace

std::map<std::string, FloatWeight> float_weights(const Model& model) {
  std::map<std::string, FloatWeight> weights;
  const ParamIndex parameters(model);
  for (const auto* node : nodes_of_kind(model.graph()->block(), {"prim::GetAttr"})) {
    const auto* value = node->output();
    if (!value->type()->isSubtypeOf(*c10::TensorType::get()) || value->uses().empty()) continue;
    const auto parameter = parameters.find(value);
    if (!parameter || parameter->name.empty()) continue;
    const at::Tensor& tensor = parameter->tensor;
    if (!tensor.is_floating_point() || tensor.dim() < 2) continue;
    FloatWeight& weight = weights[parameter->name];
    weight.bytes = static_cast<int64_t>(tensor.nbytes());
    weight.data = tensor.data_ptr();
    add_readers(value, weight.readers);
  }
  return weights;
}

int64_t total_bytes(const std::map<std::string, FloatWeight>& weights) {
  std::map<const void*, int64_t> tensors;
  for (const auto& entry : weights) tensors[entry.second.data] = entry.second.bytes;
  int64_t bytes = 0;
  for (const auto& entry : tensors) bytes += entry.second;
  return bytes;
}

std::string describe(const std::map<std::string, FloatWeight>& weights) {
  constexpr size_t kNames = 3;
  std::vector<std::pair<int64_t, std::string>> by_size;
  std::set<std::string> readers;
  for (const auto& [name, weight] : weights) {
    by_size.emplace_back(-weight.bytes, name);
    readers.insert(weight.readers.begin(), weight.readers.end());
  }
  std::sort(by_size.begin(), by_size.end());
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(kNames, by_size.size()); ++i) names.push_back(by_size[i].second);
  return fmt::format("{} bytes as floats, read by {} ({}{})", total_bytes(weights), fmt::join(readers, ", "),
                     fmt::join(names, ", "), by_size.size() > kNames ? ", ..." : "");
}

c10::optional<std::string> warn_if_larger(const Model& model, int64_t float_bytes, int64_t quantized_bytes) {
  if (quantized_bytes <= float_bytes) return c10::nullopt;
  const auto weights = float_weights(model);
  if (2 * total_bytes(weights) < float_bytes) return c10::nullopt;
  return fmt::format(
      "the result is larger than the float model: beside the codes it keeps {}. Write these layers so that nothing "
      "else reads their weights, or put them into the ignored scope",
      describe(weights));
}

}  // namespace tsquant
