#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/Optional.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tsquant {

enum class QuantizationMode {
  kSymmetric,   ///< zero_point is fixed by the dtype: 0 for signed codes
  kAsymmetric,  ///< zero_point is chosen from the range
};

/// Floating-point formats of one byte (NNCF's FP8Type).
enum class FP8Type {
  kE4M3,  ///< 4 exponent bits, 3 mantissa bits, no infinity; largest value 448
  kE5M2,  ///< 5 exponent bits, 2 mantissa bits; largest finite value 57344
};

/// How the range of a tensor is found from data.
enum class ObserverKind {
  /// Weights and per-channel activations: min and max, as in NNCF. Per-tensor activations, the model's inputs among
  /// them: NNCF's mean of the samples' minima and maxima, but from 100 samples on (items with batchwise_statistics) the
  /// range that covers 95 of 100 samples: the 95 % quantiles of their extrema, unless a quantile lies on the other side
  /// of zero than the mean. With fewer samples, an extreme of a model input that at least two samples and one in 20
  /// reach exactly bounds the range. In loops and in models with memory the smallest and largest value of all.
  kDefault,
  kMinMax,                         ///< smallest and largest value seen
  kPerChannelMinMax,               ///< the same for each slice along ch_axis
  kMovingAverageMinMax,            ///< exponential average of per-batch min and max (averaging_constant 0.01)
  kMovingAveragePerChannelMinMax,  ///< the same for each slice along ch_axis
  kHistogram,                      ///< range that minimises the expected squared quantization error
};

/// The quantizer configuration of one tensor. Field names follow NNCF's QuantizerConfig and PT2E's QuantizationSpec.
struct QuantizationSpec {
  int64_t num_bits = 8;                                    ///< 2..8
  QuantizationMode mode = QuantizationMode::kSymmetric;    ///< see QuantizationMode
  c10::optional<bool> signedness_to_force = c10::nullopt;  ///< symmetric only: true int8, false uint8, none: by data
  bool per_channel = false;                                ///< one scale per slice along ch_axis
  int64_t ch_axis = 0;        ///< channel axis for per_channel; weights: output channels; activations: 1
  bool narrow_range = false;  ///< drop the lowest signed (highest unsigned) level, e.g. [-127, 127]
  bool half_range = false;    ///< overflow fix: use half of the levels of a weight (7-bit weights in int8)
  /// PT2E-style annotators may fix the codes themselves; when set, these win over the rules above.
  c10::optional<c10::ScalarType> dtype = c10::nullopt;
  c10::optional<int64_t> quant_min = c10::nullopt;
  c10::optional<int64_t> quant_max = c10::nullopt;
  /// Smallest allowed scale of the torch.ao formula; used only when quant_min/quant_max are set.
  double eps = 1.1920928955078125e-07;
  ObserverKind observer = ObserverKind::kDefault;  ///< how the range is found
  /// When set, values are rounded to this floating-point format after scaling, instead of to integers; num_bits,
  /// signedness, narrow_range and half_range then have no meaning.
  c10::optional<FP8Type> destination_type = c10::nullopt;
  /// Fixed parameters (PT2E FixedQParamsQuantizationSpec): no statistics are collected when set.
  c10::optional<double> fixed_scale = c10::nullopt;
  c10::optional<int64_t> fixed_zero_point = c10::nullopt;
};

bool operator==(const QuantizationSpec& a, const QuantizationSpec& b);

enum class PointKind { kActivation, kWeight };

/// One quantizer and the place where it stands.
struct QuantizationPoint {
  int64_t id = 0;                            ///< unique within Annotations
  PointKind kind = PointKind::kActivation;   ///<
  std::string node;                          ///< stable name of the node (graph_view.h)
  c10::optional<int64_t> input_port;         ///< none: after the node, for all consumers; else before this tensor
                                             ///< argument (the port counts the operator's tensor arguments)
  QuantizationSpec spec;                     ///<
  std::vector<std::string> quantized_nodes;  ///< operators that asked for this quantizer
  std::string reason;                        ///< why it was placed, for people
};

/// A remark on an operator without a quantizer of its own: why it stays in float, why a point was dropped, or (code
/// "fused") inside which quantized operator it runs.
struct Refusal {
  std::string node;
  std::string code;    ///< stable word: "ignored", "not_quantizable", "fp32_consumer", "written_in_place", "fused", ...
  std::string reason;  ///< sentence for people
};

/// What annotate_node knows about the annotations that it extends, so that a call need not search all points. It is not
/// part of their value: a copy starts without it.
class AnnotationIndex {
 public:
  struct Tables;

  AnnotationIndex();
  AnnotationIndex(const AnnotationIndex& other);
  AnnotationIndex(AnnotationIndex&& other) noexcept;
  AnnotationIndex& operator=(const AnnotationIndex& other);
  AnnotationIndex& operator=(AnnotationIndex&& other) noexcept;
  ~AnnotationIndex();

 private:
  friend class PointAdder;
  std::unique_ptr<Tables> tables_;
};

/// The decisions of a quantizer: a value that can be printed, compared and saved.
struct Annotations {
  std::vector<QuantizationPoint> points;
  std::vector<std::vector<int64_t>> unified_scale_groups;  ///< ids of points that share scale and zero_point
  std::vector<Refusal> refusals;
  AnnotationIndex index = {};  ///< kept by annotate_node

  /// The point with this id; null when there is none. Takes logarithmic time when ids ascend, as annotate_node makes
  /// them, and linear time otherwise. The pointer is valid until `points` changes.
  const QuantizationPoint* find(int64_t id) const;
};

/// Reuse of another place's quantizer (PT2E's SharedQuantizationSpec): the tensor has the same scale and zero_point as
/// the root, which is annotated itself: the edge from `producer` to `consumer`, or the result of `producer` when
/// `consumer` is empty.
struct SharedQuantizationSpec {
  std::string producer, consumer;  ///< stable names or FX aliases
};

/// PT2E's per-node form, for users who write their own quantizer node by node.
/// ```cpp
/// QuantizationAnnotation a;
/// a.input_qspec_map[0] = act;      // tensor argument 0
/// a.input_qspec_map[1] = weight;   // tensor argument 1
/// annotate_node(annotations, view, "conv1/conv2d/0", a);
/// ```
struct QuantizationAnnotation {
  std::map<int64_t, QuantizationSpec> input_qspec_map;                 ///< tensor argument index -> spec
  c10::optional<QuantizationSpec> output_qspec;                        ///< of the node's result
  std::map<int64_t, SharedQuantizationSpec> shared_input_map = {};     ///< arguments that share a quantizer
  c10::optional<SharedQuantizationSpec> shared_output = c10::nullopt;  ///< the result shares a quantizer
};

class GraphView;

/// Adds the points of one node to `annotations`. An argument that is a parameter becomes a weight point. A shared spec
/// adds a point with the root's spec and puts both into one unified group; its root must have been annotated before.
///
/// A call takes constant time on average. Points and groups may also be appended or removed by hand between calls; a
/// point that is already there must keep its id and its node, and a group its members.
/// @throws Error kInvalidArgument when the node, the port or the root of a shared spec does not exist
void annotate_node(Annotations& annotations, const GraphView& view, const std::string& node,
                   const QuantizationAnnotation& annotation);

/// The annotations in PT2E's form, by stable node name. In a unified group the quantizer that stands earliest in the
/// graph is the root; the others are shared specs that name it.
std::map<std::string, QuantizationAnnotation> pt2e_annotations(const Annotations& annotations, const GraphView& view);

/// The same as JSON text: per node its quantized inputs by the name of their producer, and its output.
std::string pt2e_json(const Annotations& annotations, const GraphView& view);

/// The annotations as JSON text (stable key order), as `get_quantization_setup()` prints them.
std::string to_json(const Annotations& annotations, const GraphView& view);

}  // namespace tsquant
