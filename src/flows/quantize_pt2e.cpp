#include "tsquant/quantize_pt2e.h"

#include "flows/check_saved.h"
#include "flows/prepared_model.h"
#include "graph/write_model.h"

namespace tsquant {

namespace {

bool is_libtorch_engine(const std::string& engine) { return !engine.empty() && engine != "tsquant"; }

}  // namespace

QuantizedModel quantize_pt2e(Model& model, Quantizer& quantizer, const Dataset& calibration_dataset,
                             const QuantizePt2eOptions& options) {
  return convert_prepared(prepare_model(model, quantizer, calibration_dataset, options), options);
}

void QuantizedModel::save(const std::string& path) const {
  std::unordered_map<std::string, std::string> extra{{"tsquant_report.json", report.to_json(/*per_channel=*/false)},
                                                     {"tsquant_form", report.form},
                                                     {"tsquant_engine", report.engine}};
  OutputFile file(path, "model");
  write_model(model, extra, file);
  c10::optional<EngineGuard> guard;
  if (is_libtorch_engine(report.engine)) guard.emplace(report.engine);
  require_same_results(model, probe, file);
  file.commit();
}

}  // namespace tsquant
