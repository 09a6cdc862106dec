#include "tsquant/quantize_pt2e.h"

#include "flows/bitwise_equal.h"
#include "flows/prepared_model.h"
#include "graph/write_model.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

bool is_libtorch_engine(const std::string& engine) { return !engine.empty() && engine != "tsquant"; }

/// What will be loaded from the file computes what the model in memory does.
void require_same_results(const QuantizedModel& quantized, const OutputFile& file) {
  c10::optional<EngineGuard> guard;
  if (is_libtorch_engine(quantized.report.engine)) guard.emplace(quantized.report.engine);
  const Model reloaded = Model::load(file.staged_path());
  if (bitwise_equal(quantized.model.run(quantized.probe), reloaded.run(quantized.probe))) return;
  throw Error(ErrorCode::kInternal, "the saved model computes something else than the model in memory", file.path(),
              "please report this with the model");
}

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
  require_same_results(*this, file);
  file.commit();
}

}  // namespace tsquant
