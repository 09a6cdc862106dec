#include <iostream>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "io/archive_info.h"
#include "tsquant/error.h"
#include "tsquant/report.h"

namespace tsquant::cli {

void add_report(CLI::App& app) {
  struct ReportArgs {
    std::string model, json;
  };
  auto args = std::make_shared<ReportArgs>();
  auto* command = app.add_subcommand("report", "Print the report that is stored in a quantized model");
  command->add_option("model", args->model, "File written by tsquant quantize")->required();
  add_json_option(*command, args->json);
  command->callback([args] {
    check_outputs({{"--json", args->json, "report"}});
    const std::string text = read_extra_file(args->model, "tsquant_report.json");
    if (text.empty()) {
      throw Error(ErrorCode::kModelLoad, "the archive holds no report", args->model,
                  "tsquant quantize and tsquant strip write reports, training programs do not");
    }
    const Report report = Report::from_json(text);
    if (args->json.empty()) {
      std::cout << report.summary() << std::flush;
    } else {
      write_text(args->json, "report", report.to_json());
    }
  });
}

}  // namespace tsquant::cli
