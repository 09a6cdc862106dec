#include "tsquant/quantize_pt2e.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "flows/bitwise_equal.h"
#include "flows/prepared_model.h"
#include "tsquant/error.h"

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
  const std::string candidate = fmt::format("{}.{}.check", path, getpid());
  model.save(candidate, extra);
  try {
    c10::optional<EngineGuard> guard;
    if (is_libtorch_engine(report.engine)) guard.emplace(report.engine);
    const Model reloaded = Model::load(candidate);
    if (!bitwise_equal(model.run(probe), reloaded.run(probe))) {
      throw Error(ErrorCode::kInternal, "the saved model computes something else than the model in memory", path,
                  "please report this with the model");
    }
    std::filesystem::rename(candidate, path);
  } catch (const std::filesystem::filesystem_error& error) {
    std::remove(candidate.c_str());
    throw Error(ErrorCode::kIo, error.what(), path);
  } catch (...) {
    std::remove(candidate.c_str());
    throw;
  }
}

}  // namespace tsquant
