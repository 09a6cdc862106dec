#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/text_table.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/demo_network.h"
#include "cli/demo_qat.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/run_program.h"
#include "io/write_module.h"
#include "tsquant/data_files.h"
#include "tsquant/error.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::cli {

namespace {

struct DemoArgs {
  std::string dir = "tsquant_demo", json;
  bool quick = false, qat = false;
  double outlier = 0;  ///< factor of the planted channel; 0: none
};

struct Row {
  std::string name, path;
  double top1 = 0, agreement = 0, median_ms = 0, ratio = 1;
  int64_t bytes = 0;
};

/// Runs this program again, so that what is measured is what a user loads from the file; returns its JSON.
nlohmann::json run_self(const DemoArgs& args, std::vector<std::string> arguments) {
  const std::string result = args.dir + "/result.json";
  arguments.insert(arguments.begin(), "/proc/self/exe");
  arguments.insert(arguments.end(), {"--json", result});
  if (run_program(arguments) != 0) {
    stop_if_interrupted();
    throw Error(ErrorCode::kInternal, "the command failed: " + fmt::format("{}", fmt::join(arguments, " ")));
  }
  std::ifstream file(result);
  auto json = nlohmann::json::parse(file);
  std::filesystem::remove(result);
  return json;
}

DigitData train_digits(const DemoArgs& args) { return draw_digits(args.quick ? 4000 : 10000, 1); }
DigitData test_digits(const DemoArgs& args) { return draw_digits(args.quick ? 1000 : 4000, 3); }

void train_and_save(const DemoArgs& args) {
  log_line("drawing digits and training a small residual network in C++");
  save_digits(draw_digits(300, 2), args.dir + "/calibration.pt");
  save_digits(test_digits(args), args.dir + "/test.pt");
  auto network = make_network(1);
  TrainOptions options;
  options.epochs = args.quick ? 4 : 6;
  options.seconds = args.quick ? 600 : 55;  // quick ones are tests: the same network on slow machines
  const auto progress = console_progress();
  options.progress = [&](int64_t step, int64_t steps, double) {
    progress("train", step, steps);
    stop_if_interrupted();
  };
  train(network, train_digits(args), options);
  if (args.outlier > 0) {
    plant_outlier(network, args.outlier);
    save_digits(draw_digits(args.quick ? 500 : 2000, 4), args.dir + "/validation.pt");
  }
  save_module(args.dir + "/fp32.pt", "model", network);
}

void quantize_to(const DemoArgs& args, OutputForm form, const std::string& path) {
  Model model = Model::load(args.dir + "/fp32.pt");
  OpenVINOQuantizer quantizer;
  DataOptions data;
  data.inputs = {"images"};
  data.mean = {0.5};
  data.stddev = {0.25};
  QuantizePt2eOptions options;
  options.form = form;
  options.progress = console_progress();
  const auto file = load_data(args.dir + "/calibration.pt", data);
  const auto result = quantize_pt2e(model, quantizer, file.dataset, options);
  stop_if_interrupted();
  result.save(path);
  if (form == OutputForm::kLowered) log_line(result.report.summary());
}

/// The damaged network again, with a limit of one point: the program returns the operator that reads the planted
/// channel to float.
void quantize_within_limit(const DemoArgs& args, const std::string& path) {
  const std::vector<std::string> command{"/proc/self/exe",
                                         "quantize",
                                         args.dir + "/fp32.pt",
                                         "-o",
                                         path,
                                         "--data",
                                         args.dir + "/calibration.pt",
                                         "--inputs",
                                         "images",
                                         "--normalize",
                                         "0.5:0.25",
                                         "--form",
                                         "reference",
                                         "--max-drop",
                                         "0.01",
                                         "--validation-data",
                                         args.dir + "/validation.pt",
                                         "--validation-labels",
                                         "labels",
                                         "--json",
                                         args.dir + "/accuracy.json"};
  log_line("quantizing with accuracy control");
  // 6: the limit was missed; the best model is there all the same.
  const int code = run_program(command);
  stop_if_interrupted();
  if (code != 0 && code != 6) throw Error(ErrorCode::kInternal, "quantize --max-drop failed", path);
  std::ifstream file(args.dir + "/accuracy.json");
  const auto json = nlohmann::json::parse(file).at("accuracy_control");
  log_line(fmt::format("returned to float: {}; {:.1f} s", json.at("reverted").dump(),
                       json.at("seconds").at("total").get<double>()));
}

void measure(const DemoArgs& args, std::vector<Row>& rows) {
  for (auto& row : rows) {
    const auto json =
        run_self(args, {"evaluate", row.path, "--data", args.dir + "/test.pt", "--inputs", "images", "--labels",
                        "labels", "--normalize", "0.5:0.25", "--metric", "top1", "--reference", rows.front().path});
    row.top1 = json.at("value");
    row.agreement = json.at("agreement");
    row.bytes = static_cast<int64_t>(std::filesystem::file_size(row.path));
  }
  std::vector<std::string> command{"benchmark"};
  for (const auto& row : rows) command.push_back(row.path);
  // The float model runs optimised by LibTorch: the strongest baseline.
  for (const char* argument : {"--input-shape", "1,1,24,24", "--threads", "1", "--optimize"})
    command.push_back(argument);
  command.insert(command.end(), {"--seconds", args.quick ? "1" : "3"});
  const auto results = run_self(args, command).at("results");
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].median_ms = results.at(i).at("median_ms");
    rows[i].ratio = results.at(i).at("ratio_to_first");
  }
}

void print(const std::vector<Row>& rows) {
  TextTable table({"model", "top-1 %", "agreement %", "file", "size ratio", "latency ms", "times faster"});
  table.align_right({1, 2, 3, 4, 5, 6});
  for (const auto& row : rows) {
    table.add({row.name, fmt::format("{:.2f}", row.top1), fmt::format("{:.2f}", row.agreement), human_bytes(row.bytes),
               fmt::format("{:.3f}", static_cast<double>(row.bytes) / static_cast<double>(rows.front().bytes)),
               fmt::format("{:.3f}", row.median_ms), fmt::format("{:.2f}", 1 / row.ratio)});
  }
  std::cout << table.text() << std::flush;
}

void print(const std::vector<QatDemoRow>& rows) {
  TextTable table({"model", "weights", "activations", "top-1 %", "seconds"});
  table.align_right({1, 2, 3, 4});
  for (const auto& row : rows) {
    table.add({row.model, fmt::format("{} bits", row.weight_bits), fmt::format("{} bits", row.activation_bits),
               fmt::format("{:.2f}", row.top1), fmt::format("{:.1f}", row.seconds)});
  }
  std::cout << table.text() << std::flush;
}

/// Few bits, after training and with training. @param float_seconds what training the float network took
void run_qat(const DemoArgs& args, double float_seconds) {
  const DigitData data = train_digits(args);
  save_digits(data, args.dir + "/train.pt");
  QatDemoOptions options;
  options.epochs = args.quick ? 2 : 4;
  const auto progress = console_progress();
  options.progress = [&](int64_t step, int64_t steps) { progress("train with quantizers", step, steps); };
  log_line(fmt::format("quantizing to {}-bit weights and {}-bit activations, after training and with training",
                       options.weight_bits, options.activation_bits));
  auto rows = compare_with_training(args.dir, data, test_digits(args), options);
  rows.front().seconds = float_seconds;
  if (args.json.empty()) {
    print(rows);
    return;
  }
  auto json = nlohmann::ordered_json::array();
  for (const auto& row : rows) {
    json.push_back({{"model", row.model},
                    {"weight_bits", row.weight_bits},
                    {"activation_bits", row.activation_bits},
                    {"top1", row.top1},
                    {"seconds", row.seconds}});
  }
  write_text(args.json, "results", nlohmann::ordered_json{{"results", json}}.dump(1));
}

void run(const DemoArgs& args) {
  check_output_folder(args.dir, "demo");
  std::error_code error;
  std::filesystem::create_directories(args.dir, error);
  if (error) throw Error(ErrorCode::kIo, "cannot make the folder: " + error.message(), args.dir);
  check_outputs({{"--json", args.json, "results"}});
  const auto begin = std::chrono::steady_clock::now();
  train_and_save(args);
  if (args.qat) {
    run_qat(args, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    return;
  }
  std::vector<Row> rows(3);
  rows[0].name = "fp32";
  rows[1].name = "reference";
  rows[2].name = "lowered";
  for (auto& row : rows) row.path = args.dir + "/" + row.name + ".pt";
  quantize_to(args, OutputForm::kReference, rows[1].path);
  quantize_to(args, OutputForm::kLowered, rows[2].path);
  if (args.outlier > 0) {
    rows.push_back({"within_limit", args.dir + "/within_limit.pt"});
    quantize_within_limit(args, rows.back().path);
  }
  measure(args, rows);
  if (args.json.empty()) {
    print(rows);
    return;
  }
  auto json = nlohmann::ordered_json::array();
  for (const auto& row : rows) {
    json.push_back({{"model", row.name},
                    {"top1", row.top1},
                    {"agreement", row.agreement},
                    {"bytes", row.bytes},
                    {"median_ms", row.median_ms},
                    {"ratio_to_first", row.ratio}});
  }
  write_text(args.json, "results", nlohmann::ordered_json{{"results", json}}.dump(1));
}

}  // namespace

void add_demo(CLI::App& app) {
  auto args = std::make_shared<DemoArgs>();
  auto* command = app.add_subcommand("demo", "Train a small network, quantize it, and measure the files");
  command->add_option("--dir", args->dir, "Folder for the files")->capture_default_str();
  command->add_flag("--quick", args->quick, "Less data and fewer epochs");
  auto* outlier =
      command
          ->add_option("--outlier", args->outlier,
                       "Damage the network: make one channel this much larger, and repair it with accuracy control")
          ->check(CLI::Range(1.0, 1e6));
  command->add_flag("--qat", args->qat, "Quantize to 4 bits, after training and by training, and compare the accuracy")
      ->excludes(outlier);
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
