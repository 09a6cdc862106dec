#pragma once

#include <string>
#include <vector>

#include "quantizers/fx/object_type.h"
#include "tsquant/graph_view.h"

namespace tsquant::fx {

/// What torch.ao's rules ask about an operator.
struct OperatorSite {
  std::string name;                 ///< "linear", as operator_name gives it
  std::string module_class;         ///< class of the module whose code calls the operator
  std::string module_path;          ///< its path; a layer's own
  bool in_layer = false;            ///< a layer of torch.nn runs it, as the one operator that the layer is
  bool non_traceable = false;       ///< in a module that stays in float
  bool is_custom = false;           ///< a call of a module that is kept apart
  int64_t standalone = -1;          ///< index of the standalone module around it, -1: none. The call of one that is
                                    ///< kept apart is its parent's
  std::string parent_path() const;  ///< of the code that calls the operator, or the layer
};

/// Whether an operator is what a user names.
bool fits(const OperatorSite& site, const ObjectType& type);

/// Path and class of every submodule of a model, from the root on.
struct Submodule {
  std::string path, module_class;
};
std::vector<Submodule> submodules_of(const Model& model);

}  // namespace tsquant::fx
