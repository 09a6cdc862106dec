// Every flag of the table of options changes what `tsquant compress` makes of one model.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "cli/option_flags.h"
#include "e2e/compress_model.h"
#include "e2e/program.h"
#include "options/tables.h"
#include "support/support.h"

namespace tsquant {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;

/// The value of a flag that shows, and the flags that it needs to be seen.
struct CompressCase {
  Strings values, base;
};

class EveryCompressOption : public testing::CompressesSmallLm {
 protected:
  static std::string path(const std::string& name) { return folder_ + "/" + name; }

  /// What the options made: the file's weights and what it computes, or how the run ended.
  static json made(Strings options) {
    std::filesystem::remove(path("out.pt"));
    options.insert(options.end(), {"--json", "-"});
    const auto result =
        testing::tsquant(testing::compress_command(folder_, path("out.pt"), testing::with_tokens(folder_, options)));
    if (result.code != 0) return {{"code", result.code}, {"err", result.err}};
    json report = result.json();
    for (const char* of_the_run : {"options", "phases", "rewrites"}) report.erase(of_the_run);
    report["values"] = values();
    return report;
  }

  /// What the written model computes; nothing when there is none.
  static json values() {
    if (!std::filesystem::exists(path("out.pt"))) return nullptr;
    auto model = torch::jit::load(path("out.pt"));
    const auto result = model.forward({at::arange(48).reshape({3, 16})}).toTensor();
    return result.to(c10::kDouble).abs().sum().item<double>();
  }
};

Strings int4_and(const Strings& more) {
  Strings options{"--mode", "int4_sym", "--group-size", "16", "--form", "reference"};
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

const std::map<std::string, CompressCase>& compress_cases() {
  const Strings int4 = int4_and({}), awq = int4_and({"--awq", "--awq-percent-to-apply", "1"}),
                scales = int4_and({"--scale-estimation"}), gptq = int4_and({"--gptq"}),
                lora = int4_and({"--lora-correction"}),
                uneven = {"--mode", "int4_sym", "--group-size", "24", "--form", "reference"},
                codebook = {"--mode", "adaptive_codebook", "--form", "reference"};
  static const std::map<std::string, CompressCase> table{
      {"--mode", {{"int8_sym"}, {}}},
      {"--ratio", {{"0.5"}, int4}},
      {"--group-size", {{"8"}, {"--mode", "int4_sym"}}},
      {"--all-layers", {{}, int4}},
      {"--backup-mode", {{"int8_sym"}, int4}},
      {"--compression-format", {{"fake_quantize"}, int4}},
      {"--ignore-name", {{"gate0"}, int4}},
      {"--ignore-pattern", {{"gate.*"}, int4}},
      {"--ignore-type", {{"embedding"}, int4}},
      {"--ignore-subgraph", {{"/linear/0:/linear/2"}, int4}},
      {"--lenient-rules", {{}, int4_and({"--ignore-name", "nowhere"})}},
      {"--sensitivity-metric", {{"mean_activation_magnitude"}, int4_and({"--ratio", "0.5"})}},
      {"--subset-size", {{"3"}, scales}},
      {"--awq", {{}, int4}},
      {"--awq-subset-size", {{"2"}, awq}},
      {"--awq-percent-to-apply", {{"1"}, int4_and({"--awq"})}},
      {"--awq-alpha-min", {{"0.9"}, awq}},
      {"--awq-alpha-max", {{"0.1"}, awq}},
      {"--awq-steps", {{"2"}, awq}},
      {"--awq-data-free", {{}, awq}},
      {"--scale-estimation", {{}, int4}},
      {"--scale-estimation-subset-size", {{"2"}, scales}},
      {"--scale-estimation-initial-steps", {{"0"}, scales}},
      {"--scale-estimation-scale-steps", {{"0"}, scales}},
      {"--scale-estimation-weight-penalty", {{"0.5"}, scales}},
      {"--gptq", {{}, int4}},
      {"--gptq-damp-percent", {{"0.01"}, gptq}},
      {"--gptq-block-size", {{"8"}, gptq}},
      {"--gptq-subset-size", {{"2"}, gptq}},
      {"--lora-correction", {{}, int4}},
      {"--lora-rank", {{"2"}, lora}},
      {"--lora-iterations", {{"0"}, lora}},
      {"--lora-no-regularization", {{}, lora}},
      {"--lora-subset-size", {{"2"}, lora}},
      {"--lora-float-adapters", {{}, lora}},
      {"--lora-adapter-rank", {{"8"}, int4_and({"--compression-format", "fake_quantize_with_lora"})}},
      {"--group-size-fallback", {{"ignore"}, uneven}},
      {"--min-adjusted-group-size",
       {{"16"},
        {"--mode", "int4_sym", "--group-size", "24", "--form", "reference", "--group-size-fallback", "adjust"}}},
      {"--codebook", {{"-2,-1,0,1,2"}, {"--mode", "codebook"}}},
      {"--codebook-value-type", {{"f8e5m2"}, codebook}},
      {"--codebook-across-blocks", {{}, codebook}},
      {"--codebook-size", {{"8"}, codebook}},
      {"--quality", {{"best"}, int4}},
      {"--target-size", {{"20%"}, int4}},
      {"--target-bits-per-weight", {{"3.5"}, int4}},
      {"--form", {{"reference"}, {}}},
      {"--dynamic-activations", {{}, {}}},
      {"--dry-run", {{}, int4}},
  };
  return table;
}

/// Shown elsewhere: their effect is a file, or needs another model.
const std::map<std::string, std::string> kCompressElsewhere{
    {"--statistics-path", "CompressProgram.WritesStatisticsAndGraphs"},
    {"--dump-dir", "CompressProgram.WritesStatisticsAndGraphs"},
    {"--resume-dir", "Resume.TheFolderMayBeChosen"},
    {"--skip-pass", "CompressProgram.RewritesMayBeLeftOut"},
};

TEST_F(EveryCompressOption, OfTheTableHasACase) {
  std::set<std::string> flags, covered;
  cli::for_each_flag(fields<CompressWeightsOptions>(),
                     [&](const auto& row) { flags.insert(cli::first_name(row.flag)); });
  for (const auto& entry : compress_cases()) covered.insert(entry.first);
  for (const auto& entry : kCompressElsewhere) EXPECT_TRUE(covered.insert(entry.first).second) << entry.first;
  EXPECT_EQ(flags, covered);
}

TEST_F(EveryCompressOption, ChangesTheResult) {
  std::map<Strings, json> bases;
  for (const auto& [flag, c] : compress_cases()) {
    if (bases.count(c.base) == 0) bases[c.base] = made(c.base);
    Strings options = c.base;
    // An option that is in the base takes its new value there: it may be given once.
    const auto given = std::find(options.begin(), options.end(), flag);
    if (given != options.end()) options.erase(given, given + 2);
    options.push_back(flag);
    options.insert(options.end(), c.values.begin(), c.values.end());
    const json result = made(options);
    EXPECT_NE(result, bases.at(c.base)) << flag;
    EXPECT_EQ(result.value("code", 0), 0) << flag << "\n" << result.value("err", "");
  }
}

}  // namespace
}  // namespace tsquant
