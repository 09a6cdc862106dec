#include "flows/compression/float_copies.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <map>
#include <set>

#include "graph/node_lists.h"
#include "graph/params.h"

namespace tsquant {

namespace {

using Kinds = std::set<std::string>;

/// The operators that read float parameters of the module, by the parameter's state-dict name.
std::map<std::string, Kinds> readers_of_floats(const Model& model) {
  std::map<std::string, Kinds> readers;
  for (const auto* node : nodes_of_kind(model.graph()->block(), {"prim::GetAttr"})) {
    const auto* value = node->output();
    if (!value->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    const auto parameter = param_of(model, value);
    if (!parameter || parameter->name.empty() || !parameter->tensor.is_floating_point()) continue;
    for (const auto& use : value->uses()) readers[parameter->name].insert(use.user->kind().toQualString());
  }
  return readers;
}

}  // namespace

c10::optional<std::string> note_float_copies(const Model& model, std::vector<WeightLayer>& layers) {
  const auto readers = readers_of_floats(model);
  Kinds kinds;
  int64_t weights = 0, bytes = 0;
  for (WeightLayer& layer : layers) {
    const auto found = readers.find(layer.name);
    if (layer.in_float || !layer.slot || found == readers.end()) continue;
    layer.record.remarks.push_back(
        fmt::format("its float values stay in the file: {} reads them, too", fmt::join(found->second, ", ")));
    kinds.insert(found->second.begin(), found->second.end());
    ++weights;
    bytes += layer.record.float_bytes;
  }
  if (weights == 0) return c10::nullopt;
  return fmt::format(
      "{} compressed weights ({} bytes as floats) stay in the file as floats, too: {} reads them. Ignore these layers, "
      "or write them so that nothing else reads their weights",
      weights, bytes, fmt::join(kinds, ", "));
}

}  // namespace tsquant
