#include "flows/compression/float_copies.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "flows/float_weights.h"
#include "graph/op_table.h"

namespace tsquant {

namespace {

/// Whether layers of this kind are compressed, or their records say why not.
bool has_records(const std::string& kind) {
  const std::string function = kind.substr(kind.find(':') + 2);
  const OpInfo& op = find_op(function);
  const bool is_layer = product_side(op, 0) || function.find("conv") != std::string::npos || function == "embedding";
  return is_layer || function.rfind("lstm", 0) == 0 || function.rfind("gru", 0) == 0 || kind.rfind("aten::", 0) != 0;
}

}  // namespace

c10::optional<std::string> note_float_copies(const Model& model, std::vector<WeightLayer>& layers) {
  const auto floats = float_weights(model);
  std::set<std::string> kinds;
  int64_t weights = 0, bytes = 0;
  for (WeightLayer& layer : layers) {
    const auto found = floats.find(layer.name);
    if (layer.in_float || !layer.slot || found == floats.end()) continue;
    const auto& readers = found->second.readers;
    layer.record.remarks.push_back(
        fmt::format("its float values stay in the file: {} reads them, too", fmt::join(readers, ", ")));
    kinds.insert(readers.begin(), readers.end());
    ++weights;
    bytes += layer.record.float_bytes;
  }
  if (weights == 0) return c10::nullopt;
  return fmt::format(
      "{} compressed weights ({} bytes as floats) stay in the file as floats, too: {} reads them. Ignore these layers, "
      "or write them so that nothing else reads their weights",
      weights, bytes, fmt::join(kinds, ", "));
}

c10::optional<std::string> note_other_weights(const Model& model, const std::vector<WeightLayer>& layers,
                                              int64_t float_bytes) {
  constexpr int64_t kWorthSaying = 100;  // hundredths of the model
  auto floats = float_weights(model);
  for (const WeightLayer& layer : layers) floats.erase(layer.name);
  for (auto it = floats.begin(); it != floats.end();) {
    const auto& readers = it->second.readers;
    it = std::any_of(readers.begin(), readers.end(), has_records) ? floats.erase(it) : std::next(it);
  }
  if (floats.empty() || total_bytes(floats) * kWorthSaying < float_bytes) return c10::nullopt;
  return "no format is known for weights of operators of these kinds: the file keeps " + describe(floats);
}

}  // namespace tsquant
