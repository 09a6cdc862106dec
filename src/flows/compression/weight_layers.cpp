#include "flows/compression/weight_layers.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_set>

#include "graph/op_table.h"
#include "graph/params.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

std::vector<ParameterUse> all_uses(const GraphView& view, const ViewNode& parameter) {
  std::vector<ParameterUse> uses;
  for (const int64_t id : parameter.out_edges) {
    const ViewEdge& edge = view.edge(id);
    if (edge.use.user) uses.emplace_back(edge.use.user, edge.use.offset);
  }
  return uses;
}

/// The other factor of a matrix multiplication. Its channels are those that the product sums over.
void find_activation(const GraphView& view, const ParamIndex& params, const ViewEdge& weight, WeightLayer& layer) {
  const auto side = product_side(*layer.node->op, weight.input_port);
  const ViewEdge* activation = side ? view.input_edge(*layer.node, side->other_port) : nullptr;
  if (!activation || !activation->use.user || params.find(activation->value)) return;
  layer.activation = activation;
  layer.channel_axis = side->left ? -2 : -1;
}

/// What tells two parameters apart: tied ones have one memory and one shape.
using TensorKey = std::tuple<const void*, int64_t, c10::ScalarType, std::vector<int64_t>, std::vector<int64_t>>;

c10::optional<TensorKey> key_of_tensor(const at::Tensor& tensor) {
  if (!tensor.has_storage() || !tensor.storage().unsafeGetStorageImpl()) return c10::nullopt;
  return TensorKey(tensor.storage().unsafeGetStorageImpl(), tensor.storage_offset(), tensor.scalar_type(),
                   tensor.sizes().vec(), tensor.strides().vec());
}

}  // namespace

int64_t FloatBytes::take(const at::Tensor& weight) {
  auto bytes = static_cast<int64_t>(weight.nbytes());
  if (!weight.has_storage()) return bytes;
  const auto& storage = weight.storage();
  int64_t& left = left_.emplace(storage.unsafeGetStorageImpl(), static_cast<int64_t>(storage.nbytes())).first->second;
  bytes = std::min(bytes, left);
  left -= bytes;
  return bytes;
}

int64_t output_axis(const WeightLayer& layer) {
  if (layer.spec.group_size == 0) return layer.spec.ch_axis;
  const int64_t dims = layer.weight.dim();
  return at::maybe_wrap_dim(layer.spec.group_axis, dims) == dims - 1 ? dims - 2 : dims - 1;
}

void note_error(WeightRecord& record, const OutputError& error) {
  if (record.error_before < 0) record.error_before = error.before;
  record.error_after = error.after;
}

void set_weight(Model& model, WeightLayer& layer, const at::Tensor& weight) {
  layer.weight = weight.to(layer.weight.scalar_type()).contiguous();
  for (const auto& [user, offset] : layer.uses) set_param(model, user, offset, layer.weight);
}

at::Tensor corrected_values(const WeightLayer& layer) {
  const at::Tensor values = decompress(*layer.compressed);
  return layer.correction ? values + at::mm(layer.correction->b.values, layer.correction->a.values) : values;
}

void name_weight_in_errors(const WeightLayer& layer, const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    throw Error(error.code(), error.message(), layer.name, error.advice());
  }
}

void report_progress(const Progress& progress, const char* phase, size_t done, size_t total) {
  if (!progress || progress(phase, static_cast<int64_t>(done), static_cast<int64_t>(total))) return;
  throw Error(ErrorCode::kCancelled, "cancelled while weights were compressed");
}

std::string precision_name(const QuantizationSpec& spec) {
  const FormatInfo& info = format_info(spec.format);
  if (!info.integer) return info.name;
  return fmt::format("{}_{}", info.name, spec.mode == QuantizationScheme::kSymmetric ? "sym" : "asym");
}

void use_backup(WeightLayer& layer) {
  if (layer.point->compression && layer.point->compression->backup) {
    layer.spec = *layer.point->compression->backup;
    layer.in_backup = true;
  } else {
    layer.in_float = true;
  }
}

std::vector<WeightLayer> find_weight_layers(const Model& model, const GraphView& view, const Annotations& annotations) {
  const ParamIndex params(model);
  std::vector<WeightLayer> layers;
  std::unordered_set<int64_t> seen;
  std::map<TensorKey, size_t> layer_of;
  for (const auto& point : annotations.points) {
    WeightLayer layer;
    layer.point = &point;
    layer.node = view.find(point.node);
    const ViewEdge* edge = layer.node && point.input_port ? view.input_edge(*layer.node, *point.input_port) : nullptr;
    const auto parameter = edge ? params.find(edge->value) : c10::nullopt;
    if (!parameter || !edge->use.user) {
      throw Error(ErrorCode::kInvalidArgument, "a weight point names a tensor that is no parameter", point.node,
                  "annotate weights that are parameters, buffers or constants");
    }
    if (!seen.insert(edge->from).second) continue;  // one tensor is compressed once
    const ViewNode& source = view.node(edge->from);
    if (const auto key = key_of_tensor(parameter->tensor)) {
      const auto [place, is_new] = layer_of.emplace(*key, layers.size());
      if (!is_new) {  // another name of a tied weight
        auto& uses = layers[place->second].uses;
        for (const auto& use : all_uses(view, source)) uses.push_back(use);
        continue;
      }
    }
    layer.name = parameter->name.empty() ? source.name : parameter->name;
    layer.weight = parameter->tensor.detach();
    layer.slot = params.slot(edge->value);
    layer.uses = all_uses(view, source);
    layer.spec = point.spec;
    find_activation(view, params, *edge, layer);
    layer.record.name = layer.name;
    layer.record.node = point.node;
    layer.record.shape = layer.weight.sizes().vec();
    layer.record.ratio_defining = layer.ratio_defining();
    layer.record.float_bytes = static_cast<int64_t>(layer.weight.nbytes());
    layers.push_back(std::move(layer));
  }
  return layers;
}

}  // namespace tsquant
