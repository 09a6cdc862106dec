#include "tsquant/openvino_quantizer.h"

#include <fmt/format.h>

#include <typeinfo>

#include "options/option_text.h"
#include "options/tables.h"
#include "passes/decompose_attention.h"
#include "quantizers/openvino/compression_modes.h"
#include "quantizers/openvino/fused_groups.h"
#include "quantizers/openvino/ignored_scope.h"
#include "quantizers/openvino/recurrent.h"
#include "quantizers/openvino/resolved_options.h"
#include "quantizers/openvino/spectrogram_magnitudes.h"
#include "quantizers/openvino/view_adapter.h"
#include "quantizers/openvino/weights_only.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Source: nncf MinMaxQuantization._validate_param_types and _review_mode_based_params.
void check_mode(const OpenVINOQuantizerOptions& options) {
  const auto refuse = [](const std::string& what, const char* place) {
    throw Error(ErrorCode::kInvalidArgument, what + " cannot be combined with an fp8 mode", place,
                "leave it at its default or unset mode");
  };
  for (const auto& [params, place] :
       {std::pair(options.activations_quantization_params, "activations_quantization_params"),
        std::pair(options.weights_quantization_params, "weights_quantization_params")}) {
    if (!options.mode && params.destination_type) {
      throw Error(ErrorCode::kInvalidArgument, "destination_type needs an fp8 mode", place,
                  "set mode to fp8_e4m3 or fp8_e5m2");
    }
    const bool integers =
        params.num_bits || params.mode || params.signedness_to_force || params.per_channel || params.narrow_range;
    if (options.mode && integers) refuse("a field of integer quantization", place);
  }
  if (!options.mode) return;
  if (options.preset.value_or(QuantizationPreset::kPerformance) != QuantizationPreset::kPerformance) {
    refuse("the mixed preset", "preset");
  }
  if (options.target_device != TargetDevice::kAny && options.target_device != TargetDevice::kCpu) {
    refuse("this target device", "target_device");
  }
  if (options.quantize_outputs) refuse("quantize_outputs", "quantize_outputs");
}

void check_overflow_fix(const OpenVINOQuantizerOptions& options) {
  if (!options.overflow_fix || *options.overflow_fix == OverflowFix::kDisable) return;
  if (!options.mode && openvino::eight_bit(options)) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("the overflow fix does not go together with {}",
                          options.mode ? "an fp8 mode" : "bit widths other than 8"),
              "overflow_fix", "leave it unset or disable it");
}

void set_formats(Annotations& annotations, const OpenVINOQuantizerOptions& options) {
  for (auto& point : annotations.points) {
    const auto& params = point.kind == PointKind::kWeight ? options.weights_quantization_params
                                                          : options.activations_quantization_params;
    point.spec.format = format_of(params.destination_type.value_or(fp8_type_of(*options.mode)));
  }
}

void check_bits(const c10::optional<int64_t>& bits, const char* place) {
  if (!bits || (*bits >= 2 && *bits <= 8)) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("num_bits is {}", *bits), place, "choose 2 to 8");
}

/// Attention that stayed one operator says why, instead of being unknown to the operator table.
void explain_whole_attention(const GraphView& view, Annotations& annotations) {
  for (auto& refusal : annotations.refusals) {
    if (refusal.code == "fused") continue;  // by far the most
    const ViewNode* node = view.find(refusal.node);
    const std::string reason = node && node->node ? attention_obstacle(view.model(), node->node) : "";
    if (reason.empty()) continue;
    refusal.code = "whole_attention";
    refusal.reason = "attention in one operator, which is not taken apart: " + reason;
  }
}

/// Only the ignored scope means something beside weights_only.
void check_weights_only(const OpenVINOQuantizerOptions& options) {
  if (!options.weights_only) return;
  for (const auto& row : fields<OpenVINOQuantizerOptions>()) {
    if (row.name == "weights_only" || row.name == "ignored_scope" || row.get(options) == row.default_value) continue;
    throw Error(ErrorCode::kInvalidArgument, row.name + " is set beside weights_only, which compresses weights alone",
                row.name, "leave one of them out");
  }
  openvino::check_weights_only(*options.weights_only);
}

}  // namespace

OpenVINOQuantizer::OpenVINOQuantizer(OpenVINOQuantizerOptions options) : options_(std::move(options)) {
  check_weights_only(options_);
  check_mode(options_);
  check_overflow_fix(options_);
  check_bits(options_.activations_quantization_params.num_bits, "activations_quantization_params");
  check_bits(options_.weights_quantization_params.num_bits, "weights_quantization_params");
}

QuantizerDescription OpenVINOQuantizer::describe() const {
  const auto resolved = openvino::resolved_options(options_);
  return {"openvino", recorded_options(resolved), statistics_settings(resolved),
          options_.model_type == ModelType::kTransformer};
}

std::unique_ptr<Quantizer> OpenVINOQuantizer::with_option(const std::string& option, const std::string& value) const {
  if (typeid(*this) != typeid(OpenVINOQuantizer)) return nullptr;  // what the other class adds would be lost
  auto options = options_;
  for (const auto& row : fields<OpenVINOQuantizerOptions>()) {
    if (row.name != option || !row.parts.empty()) continue;
    const auto json = nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false);
    row.set(options, row.schema.contains("enum") || json.is_discarded() ? nlohmann::json(value) : json);
    return std::make_unique<OpenVINOQuantizer>(std::move(options));
  }
  return nullptr;
}

// Numbers stay numbers: NNCF's FX graphs hold them as literals too, and a tensor in their place would be one more input
// to quantize (scalars_to_tensors is XNNPACK's rewrite).
std::vector<std::string> OpenVINOQuantizer::rewrites_for_annotation() const { return {"decompose_attention"}; }

Annotations OpenVINOQuantizer::annotate(const GraphView& view) const {
  if (options_.weights_only) {
    return openvino::annotate_weights(view, *options_.weights_only,
                                      openvino::match_ignored_scope(view, options_.ignored_scope, /*weights=*/true));
  }
  const auto resolved = openvino::resolved_options(options_);
  const auto ignored = openvino::match_ignored_scope(view, options_.ignored_scope);
  const auto spectra = openvino::find_spectra(view);
  auto left_out = ignored;
  for (const auto& spectrum : spectra) {
    for (const int64_t node : spectrum.nodes) left_out[node] = true;
  }
  const auto graph = openvino::make_placement_graph(view);
  const auto placement = openvino::place_quantizers(graph, resolved, left_out);
  auto annotations = openvino::make_annotations(placement, graph, view);
  openvino::describe_fused(view, placement, annotations);
  openvino::add_recurrent_points(view, ignored, resolved, annotations);
  openvino::describe_spectra(view, spectra, ignored, resolved, annotations);
  if (options_.mode) set_formats(annotations, options_);
  explain_whole_attention(view, annotations);
  return annotations;
}

}  // namespace tsquant
