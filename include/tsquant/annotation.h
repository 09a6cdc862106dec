#pragma once

#include <c10/util/Optional.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tsquant/compression_parameters.h"
#include "tsquant/quantization_spec.h"

namespace tsquant {

/// What weight compression may do with a weight besides what its spec says (compress_pt2e.h).
struct CompressionChoice {
  bool ratio_defining = false;                            ///< counts for `ratio`: mixed precision may give it `backup`
  c10::optional<QuantizationSpec> backup = c10::nullopt;  ///< the other precision; none: the weight stays as it is
  /// When the group size of the spec does not divide the axis. kAdjust is for whoever annotates: nothing is left to do.
  GroupSizeFallbackMode fallback = GroupSizeFallbackMode::kError;
  bool adaptive_codebook = false;  ///< the levels of the spec are where the search for better ones starts
};

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
  /// Weights that are compressed alone, without activations: set by quantizers for compress_pt2e.
  c10::optional<CompressionChoice> compression = c10::nullopt;
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

/// Takes points away, from unified groups too.
void remove_points(Annotations& annotations, const std::set<int64_t>& ids);

/// Operators no longer ask for quantizers: points that nobody else asked for disappear.
void remove_operators(Annotations& annotations, const std::set<std::string>& names);

/// The annotations in PT2E's form, by stable node name. In a unified group the quantizer that stands earliest in the
/// graph is the root; the others are shared specs that name it.
std::map<std::string, QuantizationAnnotation> pt2e_annotations(const Annotations& annotations, const GraphView& view);

/// The same as JSON text: per node its quantized inputs by the name of their producer, and its output.
std::string pt2e_json(const Annotations& annotations, const GraphView& view);

/// The annotations as JSON text (stable key order), as `get_quantization_setup()` prints them.
std::string to_json(const Annotations& annotations, const GraphView& view);

}  // namespace tsquant
