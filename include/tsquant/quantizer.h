#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"
#include "tsquant/model.h"

namespace tsquant {

/// Decides what is quantized and how. Derive from it to write your own policy; quantize_pt2e accepts any Quantizer.
class Quantizer {
 public:
  virtual ~Quantizer() = default;
  /// Float-to-float rewrites of the library that this quantizer needs before it annotates, by name:
  /// "decompose_attention" spells fused attention as the layers it consists of, "scalars_to_tensors" makes numbers that
  /// are added or multiplied buffers. quantize_pt2e runs them in this order, before transform_for_annotation. Default:
  /// none.
  virtual std::vector<std::string> rewrites_for_annotation() const { return {}; }
  /// A float-to-float rewrite of its own. Default: none.
  virtual void transform_for_annotation(Model& model) { (void)model; }
  /// Returns the decisions for this graph; the graph is not changed.
  virtual Annotations annotate(const GraphView& view) const = 0;
  /// Throws Error(kInvalidArgument) when the annotations are inconsistent. Default: the checks that every annotation
  /// must pass (existing nodes and ports, one spec per point, equal specs in a unified group).
  virtual void validate(const GraphView& view, const Annotations& annotations) const;
};

}  // namespace tsquant
