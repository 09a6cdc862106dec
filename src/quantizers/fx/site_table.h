#pragma once

#include <string>
#include <vector>

#include "quantizers/fx/operator_sites.h"
#include "tsquant/fx/custom_config.h"

namespace tsquant::fx {

/// A submodule with a mapping and a backend of its own.
struct StandaloneModule {
  Submodule module;
  const StandaloneConfig* config = nullptr;
};

/// The sites of all operators of a view, and the modules that a custom configuration names.
struct SiteTable {
  /// @throws Error kInvalidArgument for a module that the model does not have
  SiteTable(const GraphView& view, const PrepareCustomConfig& custom);

  const OperatorSite& at(int64_t node) const { return sites[node]; }

  std::vector<OperatorSite> sites;  ///< by node id
  std::vector<StandaloneModule> standalone;
};

/// The standalone modules of a model, those named first: a name is stronger than a class.
/// @throws Error kInvalidArgument for a module that the model does not have
std::vector<StandaloneModule> find_standalone(const std::vector<Submodule>& modules, const PrepareCustomConfig& custom);

/// @throws Error kInvalidArgument with the paths that come closest when the model has no such submodule
void require_submodule(const std::vector<Submodule>& modules, const std::string& path, const std::string& place);

}  // namespace tsquant::fx
