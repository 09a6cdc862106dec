#include "flows/strip_trainable.h"

#include <ATen/ATen.h>

#include "graph/dead_code.h"
#include "graph/insert_op.h"
#include "graph/params.h"
#include "lowering/compressed/decompression_chain.h"
#include "lowering/fake_quantize_nodes.h"
#include "lowering/trainable/trainable_weight.h"
#include "numerics/groups.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// Scales of quantizers that go down become positive: their zero point moves by one.
AffineNode positive(const QParams& q) {
  const at::Tensor is_negative = (q.scale < 0).to(at::kLong);
  AffineNode a;
  a.per_channel = true;
  a.axis = q.axis;
  a.scales = at::abs(q.scale).reshape({-1}).contiguous();
  a.zero_points = (q.zero_point - is_negative).reshape({-1}).contiguous();
  a.quant_min = q.quant_min;
  a.quant_max = q.quant_max;
  a.dtype = q.dtype;
  return a;
}

/// LibTorch's fake quantize knows channels, not groups: each group becomes a row.
Value* insert_fake_quantizes(Graph& graph, Value* weight, const TrainableWeight& trainable, const QParams& q) {
  AffineNode a = positive(q);
  const bool is_float = trainable.weight.scalar_type() == c10::kFloat;
  const auto cast = [&](Value* x, c10::ScalarType type) {
    Value* no = graph.insertConstant(false);
    Value* dtype = graph.insertConstant(static_cast<int64_t>(type));
    return is_float ? x : insert_op(graph, "aten::to", {x, dtype, no, no, graph.insertConstant(c10::IValue())});
  };
  Value* x = cast(weight, c10::kFloat);
  if (q.group_size == 0) return cast(insert_fake_quantize(graph, a, x), trainable.weight.scalar_type());
  const auto last = static_cast<int64_t>(trainable.groups.size()) - 1;
  const int64_t inner = q.group_axis + 1;
  const auto swapped = [&](Value* y) {
    if (inner == last) return y;
    return insert_op(graph, "aten::transpose", {y, graph.insertConstant(inner), graph.insertConstant(last)});
  };
  auto rows = trainable.groups;
  std::swap(rows[static_cast<size_t>(inner)], rows.back());
  a.axis = 0;
  for (at::Tensor* parameters : {&a.scales, &a.zero_points}) {
    *parameters = parameters->view(q.scale.sizes()).unsqueeze(inner).transpose(inner, last).reshape({-1}).contiguous();
  }
  x = swapped(insert_op(graph, "aten::reshape", {x, graph.insertConstant(trainable.groups)}));
  x = insert_op(graph, "aten::reshape", {x, graph.insertConstant(std::vector<int64_t>{-1, q.group_size})});
  x = insert_fake_quantize(graph, a, x);
  x = swapped(insert_op(graph, "aten::reshape", {x, graph.insertConstant(rows)}));
  x = insert_op(graph, "aten::reshape", {x, graph.insertConstant(trainable.weight.sizes().vec())});
  return cast(x, trainable.weight.scalar_type());
}

/// The stored weight and everything that reads it through the quantizer.
std::vector<ParameterUse> skip_quantizer(const std::shared_ptr<Graph>& graph, const FoundTrainable& found) {
  std::vector<ParameterUse> uses;
  for (const auto& use : found.last->output()->uses()) uses.emplace_back(use.user, use.offset);
  found.last->output()->replaceAllUsesWith(found.value);
  remove_dead_code(graph);
  return uses;
}

void strip_weight(Model& model, NewParameters& parameters, const FoundTrainable& found, StripFormat format) {
  const TrainableWeight& trainable = found.weight;
  const CompressedWeight codes = trainable.codes();
  const auto dtype = trainable.weight.scalar_type();
  const auto uses = skip_quantizer(model.graph(), found);
  if (format == StripFormat::kDq) {
    insert_decompression(model, parameters, uses, store_weight(codes, trainable.weight.sizes(), dtype));
    return;
  }
  replace_parameter(model, uses, decompress(codes).to(dtype));
  if (format == StripFormat::kInPlace) return;
  Node* reader = insert_reader(model, uses, "aten::alias");
  torch::jit::WithInsertPoint guard(reader);
  reader->output()->replaceAllUsesWith(
      insert_fake_quantizes(*model.graph(), reader->input(0), trainable, codes.qparams));
  reader->destroy();
}

}  // namespace

bool strip_trainable(Model& model, StripFormat format) {
  const auto all = find_trainable_weights(model);
  if (all.empty()) return false;
  NewParameters parameters(model);
  for (const auto& found : all) {
    const auto parameter = param_of(model, found.value);
    try {
      strip_weight(model, parameters, found, format);
    } catch (const Error& error) {
      throw Error(error.code(), error.message(), parameter ? parameter->name : "", error.advice());
    }
  }
  require_gradients(model);  // of nothing any more
  return true;
}

}  // namespace tsquant
