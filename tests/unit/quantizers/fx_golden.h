#pragma once

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

#include "annotated_model.h"
#include "tsquant/fx/fx_quantizer.h"
#include "tsquant/graph_view.h"

namespace tsquant::testing {

/// References of torch.ao 1.13.1 (tests/data/fx/golden.json).
const nlohmann::json& fx_golden();

/// What the references were made with: the default mappings "onednn", "fbgemm" and "qnnpack" as torch.ao 1.13 counts
/// histograms, and "minmax" without histograms; with embeddings, and transposed convolutions per tensor.
fx::QConfigMapping mapping_of(const std::string& configuration);
fx::QConfigMapping min_max_mapping();

/// What converted models hold (tests/data/fx/parameters.json).
const nlohmann::json& fx_parameters();

/// False for what conversion inserts.
bool is_of_the_model(const ViewNode& node);

/// The view's operators by FX's names, without those that conversion inserts.
class FxNames {
 public:
  /// @param model an entry of fx_golden()["models"]; both must outlive this
  FxNames(const nlohmann::json& model, const GraphView& view);
  const ViewNode& first(const std::string& name) const;
  /// Of operators that FX fuses before it observes.
  const ViewNode& last(const std::string& name) const;

 private:
  const nlohmann::json& model_;
  const GraphView& view_;
  std::map<std::string, const ViewNode*> nodes_;
};

/// One line per tensor argument and result: "add reads stem through @stem", "add makes -": with the observer behind it,
/// or its readers'. An observer has the name of the first tensor that has it. Nodes have FX's names.
std::vector<std::string> golden_lines(const nlohmann::json& model);
/// The same of our annotations; `model` tells the names.
std::vector<std::string> our_lines(const nlohmann::json& model, const AnnotatedModel& annotated);

/// What differs, as "- golden" and "+ ours".
std::vector<std::string> differences(const std::vector<std::string>& golden, const std::vector<std::string>& ours);

}  // namespace tsquant::testing
