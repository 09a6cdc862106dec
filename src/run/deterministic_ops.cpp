#include "run/deterministic_ops.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/runtime/operator.h>
#include <torch/library.h>

namespace tsquant {

namespace {

using torch::jit::Node;

/// Options of a convolution are one number for all dimensions, or one per dimension.
std::vector<int64_t> expanded(at::IntArrayRef values, int64_t dims) {
  if (values.size() == 1) return std::vector<int64_t>(static_cast<size_t>(dims), values[0]);
  return values.vec();
}

/// What LibTorch's own functions take for granted: it divides by the groups.
void check_options(at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, size_t dims,
                   int64_t groups) {
  TORCH_CHECK(groups > 0, "non-positive groups is not supported, but got ", groups);
  for (const auto& values : {stride, padding, dilation}) {
    TORCH_CHECK(values.size() == 1 || values.size() == dims, "a convolution of ", dims,
                " dimensions got stride, padding or dilation of ", values.size());
  }
}

bool is_for_onednn(const at::Tensor& x, const at::Tensor& weight) {
  return runs_on_onednn(x, weight) && x.dim() == weight.dim();
}

at::Tensor conv1d(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias,
                  at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  check_options(stride, padding, dilation, 1, groups);
  if (!is_for_onednn(x, weight)) return at::conv1d(x, weight, bias, stride, padding, dilation, groups);
  // A row of an image, as LibTorch does it.
  return at::mkldnn_convolution(x.unsqueeze(2), weight.unsqueeze(2), bias, {0, padding[0]}, {1, stride[0]},
                                {1, dilation[0]}, groups)
      .squeeze(2);
}

at::Tensor conv2d(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias,
                  at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  check_options(stride, padding, dilation, 2, groups);
  if (!is_for_onednn(x, weight)) return at::conv2d(x, weight, bias, stride, padding, dilation, groups);
  return at::mkldnn_convolution(x, weight, bias, expanded(padding, 2), expanded(stride, 2), expanded(dilation, 2),
                                groups);
}

at::Tensor conv3d(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias,
                  at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  check_options(stride, padding, dilation, 3, groups);
  if (!is_for_onednn(x, weight)) return at::conv3d(x, weight, bias, stride, padding, dilation, groups);
  return at::mkldnn_convolution(x, weight, bias, expanded(padding, 3), expanded(stride, 3), expanded(dilation, 3),
                                groups);
}

TORCH_LIBRARY_FRAGMENT(tsquant, library) {
  using c10::DispatchKey;
  library.def(
      "deterministic_conv1d(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, int "
      "groups) "
      "-> Tensor",
      torch::dispatch(DispatchKey::CompositeExplicitAutograd, TORCH_FN(conv1d)));
  library.def(
      "deterministic_conv2d(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, int "
      "groups) "
      "-> Tensor",
      torch::dispatch(DispatchKey::CompositeExplicitAutograd, TORCH_FN(conv2d)));
  library.def(
      "deterministic_conv3d(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, int "
      "groups) "
      "-> Tensor",
      torch::dispatch(DispatchKey::CompositeExplicitAutograd, TORCH_FN(conv3d)));
}

/// The operator that stands for this node; empty for other nodes and for convolutions whose padding is a word.
std::string deterministic_name(const Node* node) {
  const std::string name = node->kind().toQualString();
  if (name == "aten::linear") return "tsquant::deterministic_linear";
  if (name != "aten::conv1d" && name != "aten::conv2d" && name != "aten::conv3d") return "";
  if (!node->input(4)->type()->isSubtypeOf(*c10::ListType::ofInts())) return "";
  return "tsquant::deterministic_" + name.substr(6);
}

void replace(torch::jit::Block* block) {
  for (auto it = block->nodes().begin(); it != block->nodes().end();) {
    Node* node = *it++;
    for (auto* inner : node->blocks()) replace(inner);
    const auto name = deterministic_name(node);
    if (name.empty()) continue;
    node->replaceWithNewSymbol(c10::Symbol::fromQualString(name));
    node->destroy();
  }
}

}  // namespace

bool runs_on_onednn(const at::Tensor& x, const at::Tensor& weight) {
  return at::globalContext().userEnabledMkldnn() && at::hasMKLDNN() && x.device().is_cpu() &&
         x.layout() == at::kStrided && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat &&
         x.numel() > 0;
}

void use_deterministic_ops(torch::jit::Graph& graph) { replace(graph.block()); }

torch::jit::Operation deterministic_operation(const Node* node) {
  const auto name = deterministic_name(node);
  if (name.empty()) return node->getOperation();
  return torch::jit::getAllOperatorsFor(c10::Symbol::fromQualString(name)).front()->getOperation();
}

}  // namespace tsquant
