#include "tsquant/openvino_quantizer.h"

#include <fmt/format.h>

#include "quantizers/openvino/ignored_scope.h"
#include "quantizers/openvino/view_adapter.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

void check_bits(const c10::optional<int64_t>& bits, const char* place) {
  if (!bits || (*bits >= 2 && *bits <= 8)) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("num_bits is {}", *bits), place, "choose 2 to 8");
}

}  // namespace

OpenVINOQuantizer::OpenVINOQuantizer(OpenVINOQuantizerOptions options) : options_(std::move(options)) {
  check_bits(options_.activations_quantization_params.num_bits, "activations_quantization_params");
  check_bits(options_.weights_quantization_params.num_bits, "weights_quantization_params");
}

void OpenVINOQuantizer::transform_for_annotation(Model&) {}

Annotations OpenVINOQuantizer::annotate(const GraphView& view) const {
  const auto ignored = openvino::match_ignored_scope(view, options_.ignored_scope);
  const auto graph = openvino::make_placement_graph(view);
  const auto placement = openvino::place_quantizers(graph, options_, ignored);
  return openvino::make_annotations(placement, graph, view);
}

}  // namespace tsquant
