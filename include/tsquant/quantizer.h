#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"
#include "tsquant/model.h"

namespace tsquant {

/// What a quantizer says about itself.
struct QuantizerDescription {
  std::string name = "own";                     ///< in the report
  std::map<std::string, std::string> options;   ///< in the report: each with the value that holds
  std::map<std::string, std::string> settings;  ///< of the options, those that decide what calibration observes
  bool for_transformers = false;                ///< it was told that the model is a transformer
};

/// Decides what is quantized and how. Derive from it to write your own policy; quantize_pt2e accepts any Quantizer.
class Quantizer {
 public:
  virtual ~Quantizer() = default;
  /// Float-to-float rewrites of the library that this quantizer needs before it annotates, by name:
  /// "decompose_attention" spells fused attention as the layers it consists of, "scalars_to_tensors" makes numbers that
  /// are added or multiplied buffers. quantize_pt2e runs them in this order, recorded one by one, and `skip_passes` can
  /// leave them out. Default: none.
  virtual std::vector<std::string> rewrites_for_annotation() const { return {}; }
  /// Prepares the model for `annotate`. Default: rewrites_for_annotation, which within quantize_pt2e have run already.
  virtual void transform_for_annotation(Model& model);
  /// Returns the decisions for this graph; the graph is not changed.
  virtual Annotations annotate(const GraphView& view) const = 0;
  /// Throws Error(kInvalidArgument) when the annotations are inconsistent. Default: the checks that every annotation
  /// must pass (existing nodes and ports, one spec per point, equal specs in a unified group).
  virtual void validate(const GraphView& view, const Annotations& annotations) const;
  /// For the report, and for telling statistics of one quantizer from those of another. Default: no options.
  virtual QuantizerDescription describe() const { return {}; }
  /// The same quantizer with another value of one of its options, both as the report writes them; accuracy control
  /// tries such values. Default: null, it has no such option. @throws Error kInvalidArgument: the value does not fit
  virtual std::unique_ptr<Quantizer> with_option(const std::string& option, const std::string& value) const {
    (void)option, (void)value;
    return nullptr;
  }
};

}  // namespace tsquant
