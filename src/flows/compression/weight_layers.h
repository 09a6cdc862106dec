#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "compression/compressed_weight.h"
#include "compression/layer_error.h"
#include "compression/low_rank.h"
#include "graph/params.h"
#include "graph/shared_weight.h"
#include "lowering/compressed/stored_weight.h"
#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"
#include "tsquant/progress.h"
#include "tsquant/report.h"

namespace tsquant {

class LayerInputs;

/// A weight on its way through compression.
struct WeightLayer {
  const QuantizationPoint* point = nullptr;
  const ViewNode* node = nullptr;     ///< the operator that reads it first
  std::string name;                   ///< state-dict name, or that of the constant
  at::Tensor weight;                  ///< float; given up once it is compressed
  std::vector<ParameterUse> uses;     ///< every place that reads it
  c10::optional<AttributeSlot> slot;  ///< where the weight is kept; none for constants
  QuantizationSpec spec;              ///< the precision that holds at present
  bool in_backup = false;             ///< `spec` is the other precision
  bool in_float = false;              ///< it stays as it is
  /// Matrix multiplications of an activation: where it comes in, and its axis that is summed over.
  const ViewEdge* activation = nullptr;
  int64_t channel_axis = -1;
  at::Tensor awq_scale;                         ///< that the inputs were divided by since they were measured
  std::shared_ptr<LayerInputs> inputs;          ///< what the data showed; null without data
  c10::optional<CompressedWeight> compressed;   ///< when an algorithm has chosen the codes already
  c10::optional<StoredWeight> stored;           ///< the same, packed
  c10::optional<LowRankCorrection> correction;  ///< the best adapters for these codes, when they were asked for
  at::Tensor bias;                              ///< the layer's new bias, where an algorithm has changed it
  WeightRecord record;

  /// A matrix multiplication, which data-aware algorithms understand.
  bool is_matrix() const { return activation != nullptr && weight.dim() == 2; }
  /// A matrix in the primary precision with 4 or less bits: what NNCF's data-aware algorithms work on.
  bool takes_algorithms() const { return is_matrix() && in_primary() && format_info(spec.format).bits <= 4; }
  bool ratio_defining() const { return point->compression && point->compression->ratio_defining; }
  /// In the precision that the annotation asks for first, not in the backup.
  bool in_primary() const { return ratio_defining() && !in_float && !in_backup; }
};

/// Counts the bytes that weights take as floats: memory that several of them share counts once.
class FloatBytes {
 public:
  /// @return what the weight adds to those before it
  int64_t take(const at::Tensor& weight);

 private:
  std::unordered_map<const void*, int64_t> left_;
};

/// The annotated weights in the order of the annotations. Tied parameters, which are one tensor under several names,
/// are one weight that all their readers use; it has the first name.
/// @throws Error kInvalidArgument when a point names no parameter
std::vector<WeightLayer> find_weight_layers(const Model& model, const GraphView& view, const Annotations& annotations);

/// The matrix multiplication of a layer with an activation.
inline torch::jit::Node* product_of(const WeightLayer& layer) { return layer.activation->use.user; }

/// The backup precision, or float when there is none.
void use_backup(WeightLayer& layer);

/// The axis of the weight that the layer's outputs number.
int64_t output_axis(const WeightLayer& layer);

/// Writes the error that an algorithm has left into the record; that before the first algorithm stays.
void note_error(WeightRecord& record, const OutputError& error);

/// Another float weight in the place of the layer's, in the type of that.
void set_weight(Model& model, WeightLayer& layer, const at::Tensor& weight);

/// What chosen codes, and adapters where there are any, make of the weight.
at::Tensor corrected_values(const WeightLayer& layer);

/// Runs `work`; what it throws as Error gets the weight's name as its place.
void name_weight_in_errors(const WeightLayer& layer, const std::function<void()>& work);

/// @throws Error kCancelled when the caller wants to stop
void report_progress(const Progress& progress, const char* phase, size_t done, size_t total);

/// "int4_sym", "int8_asym", "nf4"
std::string precision_name(const QuantizationSpec& spec);

}  // namespace tsquant
