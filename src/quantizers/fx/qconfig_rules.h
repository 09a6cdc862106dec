#pragma once

#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "quantizers/fx/operator_sites.h"
#include "tsquant/fx/qconfig_mapping.h"

namespace tsquant::fx {

/// The rules of a mapping, applied to operators in the order of execution.
class QConfigRules {
 public:
  /// @param prefix of the module that paths count from, "" for the model
  explicit QConfigRules(const QConfigMapping& mapping, std::string prefix = "");

  /// The qconfig of the next operator. Positions are counted, so every operator has to be asked for once.
  OptionalQConfig next(const OperatorSite& site);
  /// The qconfig of a whole module, without positions.
  OptionalQConfig of_module(const Submodule& module) const;
  const OptionalQConfig& global_qconfig() const { return global_; }
  /// What the object types alone say about a layer; none: nothing. Layers that are fused must agree on it.
  c10::optional<OptionalQConfig> by_type(const OperatorSite& site) const;
  /// Once every operator has been asked for: a position that was not reached, and an expression that fits no module,
  /// are mistakes of the mapping.
  /// @throws Error kInvalidArgument
  void require_used(const std::vector<Submodule>& modules) const;

 private:
  using Position = QConfigMapping::Position;
  OptionalQConfig by_name(const std::string& path, OptionalQConfig qconfig) const;

  OptionalQConfig global_;
  std::string prefix_;
  std::vector<std::pair<ObjectType, OptionalQConfig>> types_;
  struct RegexRule {
    std::string text;
    std::regex regex;
    OptionalQConfig qconfig;
  };
  std::vector<RegexRule> regexes_;
  QConfigMapping::Entries<std::string> names_;
  struct PositionRule {
    Position position;
    ObjectType type;
    OptionalQConfig qconfig;
    int64_t seen = 0;
  };
  std::vector<PositionRule> positions_;
};

}  // namespace tsquant::fx
