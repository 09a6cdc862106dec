#include "flows/record_options.h"

#include "options/option_text.h"
#include "options/tables.h"

namespace tsquant {

void record_options(Report& report, const Quantizer& quantizer, const QuantizePt2eOptions& options,
                    const Dataset& dataset) {
  report.version = TSQUANT_VERSION;
  report.form = word_of(words<OutputForm>(), options.form);
  const QuantizerDescription description = quantizer.describe();
  auto& recorded = report.options;
  recorded = recorded_options(options);
  recorded.insert(description.options.begin(), description.options.end());
  recorded["quantizer"] = description.name;
  recorded["data_length"] = dataset.get_length() ? std::to_string(*dataset.get_length()) : "unknown";
  recorded["batch_size"] = std::to_string(dataset.batch_size());
  recorded["batchwise_statistics"] = options.batchwise_statistics.value_or(dataset.batch_size() > 1) ? "true" : "false";
}

std::map<std::string, std::string> deciding_options(const Quantizer& quantizer, const QuantizePt2eOptions& options) {
  const QuantizerDescription description = quantizer.describe();
  auto settings = statistics_settings(options);
  settings.insert(description.settings.begin(), description.settings.end());
  settings["quantizer"] = description.name;
  return settings;
}

}  // namespace tsquant
