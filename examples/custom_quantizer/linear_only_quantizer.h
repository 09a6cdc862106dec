#pragma once

#include <tsquant/tsquant.h>

/// Quantizes linear layers and nothing else: activations asymmetric per tensor, weights symmetric per output channel.
class LinearOnlyQuantizer : public tsquant::Quantizer {
 public:
  tsquant::Annotations annotate(const tsquant::GraphView& view) const override {
    tsquant::QuantizationSpec activation, weight;
    activation.mode = tsquant::QuantizationScheme::kAsymmetric;
    weight.per_channel = true;
    weight.signedness_to_force = true;
    weight.narrow_range = true;

    tsquant::Annotations annotations;
    for (const auto& node : view.nodes()) {
      if (node.type != "linear") continue;
      tsquant::QuantizationAnnotation annotation;
      annotation.input_qspec_map[0] = activation;
      annotation.input_qspec_map[1] = weight;
      annotate_node(annotations, view, node.name, annotation);
    }
    return annotations;
  }
};
