#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compression/compressed_weight.h"
#include "graph/shared_weight.h"
#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"
#include "tsquant/report.h"

namespace tsquant {

class LayerInputs;

/// A weight on its way through compression.
struct WeightLayer {
  const QuantizationPoint* point = nullptr;
  const ViewNode* node = nullptr;  ///< the operator that reads it first
  std::string name;                ///< state-dict name, or that of the constant
  at::Tensor weight;               ///< float; given up once it is compressed
  std::vector<ParameterUse> uses;  ///< every place that reads it
  QuantizationSpec spec;           ///< the precision that holds at present
  bool in_float = false;           ///< it stays as it is
  /// Matrix multiplications of an activation: where it comes in, and its axis that is summed over.
  const ViewEdge* activation = nullptr;
  int64_t channel_axis = -1;
  std::shared_ptr<LayerInputs> inputs;             ///< what the data showed; null without data
  c10::optional<CompressedWeight> compressed;      ///< when an algorithm has chosen the codes already
  WeightRecord record;

  /// A matrix multiplication, which data-aware algorithms understand.
  bool is_matrix() const { return activation != nullptr && weight.dim() == 2; }
  bool is_embedding() const;
  bool ratio_defining() const { return point->compression && point->compression->ratio_defining; }
  /// In the precision that the annotation asks for first, not in the backup.
  bool in_primary() const { return ratio_defining() && !in_float && spec == point->spec; }
};

/// The annotated weights in the order of the annotations.
/// @throws Error kInvalidArgument when a point names no parameter
std::vector<WeightLayer> find_weight_layers(const Model& model, const GraphView& view, const Annotations& annotations);

/// The backup precision, or float when there is none.
void use_backup(WeightLayer& layer);

/// "int4_sym", "int8_asym", "nf4"
std::string precision_name(const QuantizationSpec& spec);

}  // namespace tsquant
