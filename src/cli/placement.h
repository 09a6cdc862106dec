#pragma once

#include <memory>
#include <string>

#include "cli/options.h"
#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"
#include "tsquant/report.h"

namespace tsquant::cli {

/// A model as the quantizer sees it (after the float rewrites), and its decisions.
struct Placement {
  std::unique_ptr<Model> model;
  std::unique_ptr<GraphView> view;
  Annotations annotations;
  Report report;  ///< only `nodes`: what would be quantized, and why not
};

/// @param sample for shapes and dtypes; null when they are not known
/// @throws Error kUnsupportedModel when the model is quantized already
Placement place(const std::string& path, const QuantizerArgs& quantizer, const Sample* sample);

}  // namespace tsquant::cli
