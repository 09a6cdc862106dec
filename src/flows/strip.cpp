#include "tsquant/strip.h"

#include <fmt/format.h>

#include <algorithm>

#include "evaluation/compare.h"
#include "evaluation/quantized_operator.h"
#include "flows/strip_rewrites.h"
#include "flows/strip_trainable.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "lowering/compressed/fuse_decompression.h"
#include "lowering/lowering.h"
#include "passes/rewrite_runner.h"
#include "tsquant/error.h"
#include "tsquant/prepare_pt2e.h"

namespace tsquant {

namespace {

using torch::jit::Node;

bool is_fp8_quantizer(const Node* node) {
  const std::string name = node->kind().toQualString();
  return name == "tsquant::quantize_fp8" || name == "tsquant::dequantize_fp8";
}

bool cannot_be_stripped(const Node* node, StripFormat format) {
  if (is_fused_decompression(node)) return false;
  const std::string space = node->kind().ns().toUnqualString();
  return (space == "tsquant" || space == "quantized") && (!is_fp8_quantizer(node) || format == StripFormat::kNative);
}

/// Integer kernels hold packed weights and no quantizers that could be converted; an fp8 quantizer has no fake quantize
/// that computes the same.
void require_quantizers(const Model& model, StripFormat format) {
  const Node* found = nullptr;
  for (const Node* node : all_nodes(model.graph()->block())) {
    if (!cannot_be_stripped(node, format)) continue;
    // Rather an operator that the user knows than one that was inserted before it.
    if (!found || (names_of(found).name.empty() && !names_of(node).name.empty())) found = node;
  }
  if (!found) return;
  const char* reason = is_fp8_quantizer(found) ? "has no counterpart among LibTorch's fake quantizes"
                                               : "is an integer kernel, from which no quantizer can be stripped";
  throw Error(ErrorCode::kUnsupportedModel, fmt::format("{} {}", found->kind().toQualString(), reason),
              operator_name(found),
              "strip models with integer quantizers in decomposed, reference or fake-quantize form");
}

/// Observers hold no parameters of quantizers yet: what they saw is computed at conversion.
void require_converted(const Model& model) {
  if (!is_prepared(model.module())) return;
  throw Error(ErrorCode::kUnsupportedModel, "the model is prepared: its quantizers are observers still", "strip",
              "convert it first: convert_pt2e, fx::convert_fx or `tsquant convert`, to the fake_quantize form for "
              "LibTorch's fake quantizes, to the decomposed or reference form for integer weights");
}

void warn_if_float(Model& model) {
  const auto nodes = all_nodes(model.graph()->block());
  if (std::any_of(nodes.begin(), nodes.end(),
                  [](const Node* node) { return is_quantized_operator(node->kind().toQualString()); }))
    return;
  if (has_compressed_weights(model)) return;
  model.warnings().push_back("strip: the model has no quantizers, so there is nothing to strip");
}

}  // namespace

Model strip(Model& model, bool do_copy, StripFormat strip_format) {
  require_converted(model);
  require_quantizers(model, strip_format);
  Model result = do_copy ? model.clone() : model;
  RewriteRunner runner(result);
  const bool trained =
      runner.run("strip_trainable", [&](RewriteContext& ctx) { return strip_trainable(ctx.model, strip_format); });
  if (!trained) warn_if_float(result);
  runner.run("unfuse_decompression", unfuse_decompression);
  switch (strip_format) {
    case StripFormat::kNative:
      runner.run("decomposed_to_fake_quantize", decomposed_to_fake_quantize);
      runner.run("to_fake_quantize_form", to_fake_quantize_form);
      break;
    case StripFormat::kDq:
      runner.run("weights_to_codes", weights_to_codes);
      break;
    case StripFormat::kInPlace:
      runner.run("weights_in_place", weights_in_place);
      runner.run("decompress_in_place", decompress_in_place);
      break;
  }
  runner.run("stamp_value_names", stamp_value_names);
  runner.run("drop_unread", drop_unread);
  if (!do_copy) model.warnings() = result.warnings();
  return result;
}

}  // namespace tsquant
