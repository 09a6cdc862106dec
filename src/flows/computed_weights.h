#pragma once

#include <map>
#include <string>

#include "tsquant/graph_view.h"
#include "tsquant/report.h"

namespace tsquant {

/// Layers whose weight the graph computes in every run, by stable name, with the reason why it could not be stored.
/// Layers that the report names as ignored are left out.
std::map<std::string, std::string> find_computed_weights(const GraphView& view, const Report& report);

/// One warning per layer.
void warn_about_computed_weights(const std::map<std::string, std::string>& layers, Report& report);

/// Names the true reason where such a layer kept Q/DQ around a float operator.
void explain_kernels(const std::map<std::string, std::string>& layers, Report& report);

}  // namespace tsquant
