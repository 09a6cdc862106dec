#include "flows/record_options.h"

#include "options/option_text.h"
#include "options/tables.h"

namespace tsquant {

namespace {

std::string length_text(const Dataset* dataset) {
  if (!dataset) return "none";
  return dataset->get_length() ? std::to_string(*dataset->get_length()) : "unknown";
}

}  // namespace

void record_run(Report& report, const Quantizer& quantizer, OutputForm form, const Dataset* dataset) {
  report.version = TSQUANT_VERSION;
  report.form = word_of(words<OutputForm>(), form);
  const QuantizerDescription description = quantizer.describe();
  report.options.insert(description.options.begin(), description.options.end());
  report.options["quantizer"] = description.name;
  report.options["data_length"] = length_text(dataset);
}

void record_options(Report& report, const Quantizer& quantizer, const QuantizePt2eOptions& options,
                    const Dataset& dataset) {
  report.options = recorded_options(options);
  record_run(report, quantizer, options.form, &dataset);
  report.options["batch_size"] = std::to_string(dataset.batch_size());
  report.options["batchwise_statistics"] =
      options.batchwise_statistics.value_or(dataset.batch_size() > 1) ? "true" : "false";
}

std::map<std::string, std::string> deciding_options(const Quantizer& quantizer, const QuantizePt2eOptions& options) {
  const QuantizerDescription description = quantizer.describe();
  auto settings = statistics_settings(options);
  settings.insert(description.settings.begin(), description.settings.end());
  settings["quantizer"] = description.name;
  return settings;
}

}  // namespace tsquant
