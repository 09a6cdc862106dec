// `tsquant compress`: what it writes and prints, its configuration, and its messages for bad input.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cli/console.h"
#include "e2e/compress_model.h"
#include "e2e/program.h"
#include "support/support.h"

namespace tsquant {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::bytes_of;
using testing::files_in;
using testing::Outcome;
using Strings = std::vector<std::string>;

class CompressProgram : public testing::CompressesSmallLm {
 protected:
  /// The options must end the run with a code and a message with all of `words`, and leave nothing behind.
  void expect_refused(const Strings& options, int code, const Strings& words, bool data = false) const {
    const auto result = data ? compress_with_data(options) : compress(options);
    EXPECT_EQ(result.code, code) << result.out << result.err;
    for (const auto& word : words) EXPECT_NE(result.err.find(word), std::string::npos) << word << "\n" << result.err;
    EXPECT_TRUE(files_in(out_).empty()) << files_in(out_).front();
  }

  std::string config(const std::string& text) const {
    const std::string path = folder_ + "/config.json";
    std::ofstream(path) << text;
    return path;
  }

  static at::Tensor run_saved(const std::string& path) {
    return torch::jit::load(path).forward({at::arange(48).reshape({3, 16})}).toTensor();
  }

  /// Whether the model needs the library at run time.
  static bool calls_ours(const std::string& path) {
    return torch::jit::load(path).get_method("forward").graph()->toString().find("tsquant::") != std::string::npos;
  }

  static std::map<std::string, at::Tensor> tensors_in(const std::string& path) {
    std::map<std::string, at::Tensor> tensors;
    for (const auto& attribute : torch::jit::load(path).named_attributes()) {
      if (attribute.value.isTensor()) tensors[attribute.name] = attribute.value.toTensor();
    }
    return tensors;
  }

  static void expect_same_tensors(const std::string& a, const std::string& b) {
    const auto of_a = tensors_in(a), of_b = tensors_in(b);
    ASSERT_EQ(of_a.size(), of_b.size());
    for (const auto& [name, tensor] : of_a) {
      ASSERT_EQ(of_b.count(name), 1U) << name;
      EXPECT_EQ(tensor.scalar_type(), of_b.at(name).scalar_type()) << name;
      EXPECT_TRUE(at::equal(tensor, of_b.at(name))) << name;
    }
  }
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

double relative_distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

const Strings kInt4{"--mode", "int4_asym", "--group-size", "16"};

Strings int4_with(const Strings& more) {
  Strings options = kInt4;
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

TEST_F(CompressProgram, BothFormsLoadAndComputeTheSame) {
  const at::Tensor expected = run_saved(folder_ + "/lm.pt");
  for (const std::string form : {"reference", "lowered"}) {
    const auto result = compress(int4_with({"--form", form}));
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_TRUE(contains(result.out, "int4_asym, group size 16")) << result.out;
    EXPECT_TRUE(contains(result.out, "wrote " + output_)) << result.out;
    EXPECT_LT(relative_distance(run_saved(output_), expected), 0.15) << form;
    EXPECT_EQ(calls_ours(output_), form == "lowered");
    EXPECT_LT(fs::file_size(output_), fs::file_size(folder_ + "/lm.pt"));
  }
}

TEST_F(CompressProgram, ADryRunPrintsThePlanAndWritesNothing) {
  const auto result = compress(int4_with({"--dry-run", "--quality", "best"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "int4_asym, group size 16")) << result.out;
  EXPECT_FALSE(contains(result.out, "wrote")) << result.out;
  EXPECT_TRUE(files_in(out_).empty());
  const auto without_output = testing::tsquant({"compress", folder_ + "/lm.pt", "--dry-run"});
  EXPECT_EQ(without_output.code, 0) << without_output.err;
  EXPECT_EQ(testing::tsquant({"compress", folder_ + "/lm.pt"}).code, 2);
}

TEST_F(CompressProgram, TheReportIsJson) {
  const auto printed = compress_with_data(int4_with({"--gptq", "--json", "-"}));
  ASSERT_EQ(printed.code, 0) << printed.err;
  const json report = printed.json();
  ASSERT_EQ(report.at("weights").size(), 8U);
  int with_gptq = 0;
  for (const auto& weight : report.at("weights")) {
    if (weight.at("algorithms") != json{"gptq"}) continue;
    ++with_gptq;
    EXPECT_LT(weight.at("error_after"), weight.at("error_before"));
  }
  EXPECT_EQ(with_gptq, 6);
  ASSERT_EQ(compress_with_data(int4_with({"--gptq", "--json", out_ + "/report.json"})).code, 0);
  EXPECT_EQ(json::parse(bytes_of(out_ + "/report.json")).at("weights"), report.at("weights"));
  const auto saved = testing::tsquant({"report", output_});
  EXPECT_TRUE(contains(saved.out, "int4_asym, group size 16")) << saved.out << saved.err;
}

TEST_F(CompressProgram, ProgressTellsTheTimeLeft) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_TRUE(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
  const int screen = open(ptsname(terminal), O_RDWR | O_NOCTTY), before = dup(STDERR_FILENO);
  ASSERT_GE(screen, 0);
  dup2(screen, STDERR_FILENO);
  {
    const Progress progress = cli::console_progress();
    progress("layers", 0, 5);
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    progress("layers", 1, 5);
    progress("layers", 5, 5);
  }
  dup2(before, STDERR_FILENO);
  fcntl(terminal, F_SETFL, O_NONBLOCK);
  std::string shown;
  char part[256];
  for (ssize_t count = 0; (count = read(terminal, part, sizeof(part))) > 0;)
    shown.append(part, static_cast<size_t>(count));
  EXPECT_TRUE(contains(shown, "1/5  1 s, 4 s left")) << shown;
  EXPECT_TRUE(contains(shown, "5/5  1 s ")) << shown;
  for (const int descriptor : {terminal, screen, before}) close(descriptor);
}

TEST_F(CompressProgram, WritesStatisticsAndGraphs) {
  const Strings options =
      int4_with({"--scale-estimation", "--statistics-path", out_ + "/stats", "--dump-dir", out_ + "/graphs"});
  ASSERT_EQ(compress_with_data(options).code, 0);
  const std::string first = bytes_of(output_);
  EXPECT_EQ(files_in(out_ + "/stats").size(), 1U);
  EXPECT_FALSE(files_in(out_ + "/graphs").empty());
  ASSERT_EQ(compress_with_data(options).code, 0);
  EXPECT_TRUE(bytes_of(output_) == first);
  for (const auto& name : files_in(out_ + "/stats")) std::ofstream(out_ + "/stats/" + name) << "damaged";
  const auto damaged = compress_with_data(options);
  EXPECT_EQ(damaged.code, 5) << damaged.err;
  EXPECT_TRUE(bytes_of(output_) == first);
}

TEST_F(CompressProgram, RewritesMayBeLeftOut) {
  const std::string model = folder_ + "/scaled.pt";
  at::manual_seed(2);
  testing::define("def forward(self, x):\n  return torch.linear(torch.linear(x, self.a), self.b * 2)\n",
                  {{"a", at::randn({32, 32})}, {"b", at::randn({32, 32})}})
      .save(model);
  const auto weights = [&](const Strings& more) {
    Strings words{"compress", model, "-o", output_, "--json", "-"};
    words.insert(words.end(), more.begin(), more.end());
    return testing::tsquant(words).json().at("weights").size();
  };
  EXPECT_EQ(weights({}), 2U);
  EXPECT_EQ(weights({"--skip-pass", "fold_computed_weights"}), 1U);
  EXPECT_EQ(compress({"--skip-pass", "nothing"}).code, 2);
}

TEST_F(CompressProgram, AConfigurationGivesOptionsAndFlagsWin) {
  ASSERT_EQ(compress_with_data(int4_with({"--gptq", "--gptq-block-size", "8"})).code, 0);
  const std::string expected = bytes_of(output_);
  const std::string path = config(R"({"mode": "int4_asym", "group_size": 16, "gptq": true,  // as above
                                      "advanced_parameters": {"gptq_params": {"block_size": 8}}})");
  ASSERT_EQ(compress_with_data({"--config", path}).code, 0);
  EXPECT_TRUE(bytes_of(output_) == expected);
  // Wherever the flag stands.
  const auto sym = compress_with_data({"--mode", "int4_sym", "--config", path, "--json", "-"});
  ASSERT_EQ(sym.code, 0) << sym.err;
  EXPECT_EQ(sym.json().at("weights").at(1).at("format"), "int4_sym");
  EXPECT_EQ(sym.json().at("options").at("gptq"), "true");
}

TEST_F(CompressProgram, ANncfConfigurationHasASectionOfIt) {
  ASSERT_EQ(compress(int4_with({"--ignore-name", "gate0"})).code, 0);
  const std::string expected = bytes_of(output_);
  const std::string path = config(R"({"weight_compression": {"mode": "int4_asym", "group_size": 16},
                                      "ignored_scopes": ["gate0"], "epochs": 3})");
  const auto result = compress({"--config", path});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(bytes_of(output_) == expected);
  EXPECT_TRUE(contains(result.err, "have no effect: epochs")) << result.err;
  const auto listed = testing::tsquant({"options", "--config", path, "--json", "-"});
  EXPECT_EQ(listed.json().at("values").at("group_size"), "16") << listed.err;
  fs::remove(output_);
  expect_refused({"--config", config(R"({"compression": {"algorithm": "quantization"}})")}, 2, {"weight_compression"});
  expect_refused({"--config", config(R"({"weight_compression": {"group_sise": 1}})")}, 2,
                 {"weight_compression: unknown key \"group_sise\"", "\"group_size\""});
}

TEST_F(CompressProgram, AConfigurationIsChecked) {
  const auto refused = [&](const std::string& text, const Strings& words) {
    const std::string path = config(text);
    expect_refused({"--config", path}, 2, words);
    const auto listed = testing::tsquant({"options", "--config", path});
    EXPECT_EQ(listed.code, 2) << listed.out;
    for (const auto& word : words) EXPECT_TRUE(contains(listed.err, word)) << word << "\n" << listed.err;
  };
  refused(R"({"mode": "int4_sym", "group_sise": 16})", {"unknown key \"group_sise\"", "nearest is \"group_size\""});
  refused(R"({"mode": "int5"})", {"mode: \"int5\" is not allowed", "int4_sym"});
  refused(R"({"mode": "int4_sym", "subset_size": 0})", {"subset_size: 0 is not allowed"});
  refused(R"({"mode": "int4_sym", "advanced_parameters": {"gptq_params": {"blocksize": 8}}})",
          {"advanced_parameters.gptq_params: unknown key \"blocksize\"", "\"block_size\""});
  expect_refused({"--config", config("{\"mode\": ")}, 2, {"config.json"});
  expect_refused({"--config", config("[1]")}, 2, {"config.json"});
  expect_refused({"--config", folder_ + "/absent.json"}, 2, {"absent.json"});
  // Messages have the names that the file has.
  expect_refused({"--config", config(R"({"mode": "int4_sym", "gptq": true})")}, 2, {"gptq needs data (at gptq)"});
}

TEST_F(CompressProgram, OptionsListsWhatAConfigurationSets) {
  const std::string path = config(R"({"mode": "int4_sym", "advanced_parameters": {"awq_params": {"steps": 7}}})");
  const auto result = testing::tsquant({"options", "--config", path, "--json", "-"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.json().at("algorithms"), json{"compress_weights"});
  EXPECT_EQ(result.json().at("values"), (json{{"mode", "int4_sym"}, {"advanced_parameters.awq_params.steps", "7"}}));
}

TEST_F(CompressProgram, BadInputIsNamed) {
  expect_refused({"--mode", "int4_sym", "--group-size", "24"}, 2,
                 {"groups of 24", "gate0", "up1", "down1", "(at --group-size)", "set --group-size-fallback to ignore"});
  for (const std::string flag : {"--gptq", "--scale-estimation", "--lora-correction"}) {
    expect_refused(int4_with({flag}), 2, {"needs data", "(at " + flag + ")", "give --data"});
  }
  expect_refused({"--mode", "adaptive_codebook"}, 2, {"adaptive_codebook needs data", "(at --mode)"});
  expect_refused(int4_with({"--ratio", "1.5"}), 2, {"--ratio: 1.5 is not allowed"});
  expect_refused({"--ratio", "0.5"}, 2, {"int8_asym", "(at --ratio)"});
  expect_refused({"--mode", "int4"}, 2, {"--mode", "int4_sym"});
  expect_refused(int4_with({"--target-size", "much"}), 2, {"\"much\" is no share"});
  expect_refused({"--mode", "codebook", "--codebook", "1,a"}, 2, {"\"a\" is no number"});
  expect_refused(int4_with({"--gptq", "--quality", "best"}), 2, {"--gptq"}, /*data=*/true);
  expect_refused(int4_with({"--gptq-block-size", "8"}), 2, {"--gptq-block-size is set, but gptq is false"},
                 /*data=*/true);
}

TEST_F(CompressProgram, DamagedModelsAreRefused) {
  const std::string whole = bytes_of(folder_ + "/lm.pt"), damaged = folder_ + "/damaged.pt";
  for (const double part : {0.0, 0.1, 0.6, 0.99}) {
    std::ofstream(damaged, std::ios::binary)
        << whole.substr(0, static_cast<size_t>(part * static_cast<double>(whole.size())));
    const auto result = testing::tsquant({"compress", damaged, "-o", output_});
    EXPECT_EQ(result.code, 3) << part << result.err;
    EXPECT_TRUE(contains(result.err, damaged)) << result.err;
  }
  auto module = torch::jit::load(folder_ + "/lm.pt");
  at::NoGradGuard no_grad;
  module.attr("up1").toTensor()[3][4] = std::nan("");
  module.save(damaged);
  const auto result = testing::tsquant({"compress", damaged, "-o", output_});
  EXPECT_EQ(result.code, 4) << result.err;
  EXPECT_TRUE(contains(result.err, "(at up1)")) << result.err;
  EXPECT_TRUE(files_in(out_).empty());
}

TEST_F(CompressProgram, AFullDiskLeavesTheOldFile) {
  std::ofstream(output_) << "old";
  for (const Strings& options : {kInt4, testing::with_tokens(folder_, int4_with({"--gptq"}))}) {
    for (const rlim_t bytes : {200, 1500}) {
      const auto result = testing::tsquant_prepared(testing::compress_command(folder_, output_, options), [&] {
        const rlimit limit{bytes, bytes};
        setrlimit(RLIMIT_FSIZE, &limit);
      });
      EXPECT_EQ(result.code, 7) << result.err;
      EXPECT_EQ(bytes_of(output_), "old");
      fs::remove_all(output_ + ".resume");  // results of layers that were small enough
      EXPECT_EQ(files_in(out_), Strings{"out.pt"});
    }
  }
}

TEST_F(CompressProgram, FormsTurnIntoEachOtherWithoutLoss) {
  const auto convert = [&](const std::string& from, const std::string& to, const std::string& form) {
    const auto result = testing::tsquant({"convert", out_ + "/" + from, "-o", out_ + "/" + to, "--form", form});
    ASSERT_EQ(result.code, 0) << result.err;
  };
  for (const std::string mode : {"int4_asym", "int3_sym", "int8_sym", "nf4"}) {
    const Strings group = mode == "int8_sym" ? Strings{} : Strings{"--group-size", "16"};
    for (const std::string form : {"lowered", "reference"}) {
      Strings words{"compress", folder_ + "/lm.pt", "-o", out_ + "/" + form, "--mode", mode, "--form", form};
      words.insert(words.end(), group.begin(), group.end());
      ASSERT_EQ(testing::tsquant(words).code, 0);
    }
    convert("lowered", "as_reference", "reference");
    convert("as_reference", "as_lowered", "lowered");
    convert("reference", "from_reference", "lowered");
    EXPECT_TRUE(at::equal(run_saved(out_ + "/as_reference"), run_saved(out_ + "/reference"))) << mode;
    EXPECT_TRUE(at::equal(run_saved(out_ + "/as_lowered"), run_saved(out_ + "/lowered"))) << mode;
    for (const std::string name : {"as_lowered", "from_reference"})
      expect_same_tensors(out_ + "/" + name, out_ + "/lowered");
    expect_same_tensors(out_ + "/as_reference", out_ + "/reference");
    EXPECT_FALSE(calls_ours(out_ + "/as_reference"));
    const auto report = testing::tsquant({"report", out_ + "/as_lowered", "--json", "-"}).json();
    EXPECT_EQ(report, testing::tsquant({"report", out_ + "/lowered", "--json", "-"}).json()) << mode;
  }
  const auto refused = testing::tsquant({"convert", folder_ + "/lm.pt", "-o", output_, "--form", "lowered"});
  EXPECT_EQ(refused.code, 4) << refused.err;
  EXPECT_TRUE(contains(refused.err, "no compressed weights")) << refused.err;
}

TEST_F(CompressProgram, DynamicActivationsRunAndConvertingThemAwayIsSaid) {
  ASSERT_EQ(compress(int4_with({"--form", "lowered"})).code, 0);
  const at::Tensor floats = run_saved(output_);
  ASSERT_EQ(compress(int4_with({"--form", "lowered", "--dynamic-activations"})).code, 0);
  const at::Tensor dynamic = run_saved(output_);
  EXPECT_FALSE(at::equal(dynamic, floats));
  EXPECT_LT(((dynamic - floats).norm() / floats.norm()).item<double>(), 0.02);
  const std::string plain = out_ + "/plain", again = out_ + "/again";
  const auto result = testing::tsquant({"convert", output_, "-o", plain, "--form", "reference"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "activations become float")) << result.out;
  ASSERT_EQ(testing::tsquant({"convert", plain, "-o", again, "--form", "lowered"}).code, 0);
  EXPECT_TRUE(at::equal(run_saved(again), floats));
  const auto refused = compress(int4_with({"--form", "reference", "--dynamic-activations"}));
  EXPECT_EQ(refused.code, 2) << refused.err;
  EXPECT_TRUE(contains(refused.err, "--dynamic-activations is set, but the form is reference")) << refused.err;
}

TEST_F(CompressProgram, StripOfTrainableWeightsSaysWhatIsLeft) {
  const std::map<std::string, std::string> forms{
      {"native", "fake_quantize"}, {"dq", "reference"}, {"in_place", "reference"}};
  ASSERT_EQ(compress(int4_with({"--form", "fake_quantize"})).code, 0);
  for (const auto& [format, form] : forms) {
    const std::string path = out_ + "/" + format;
    const auto result = testing::tsquant({"strip", output_, "-o", path, "--format", format});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(testing::tsquant({"report", path, "--json", "-"}).json().at("form"), form) << format;
  }
}

TEST_F(CompressProgram, StripGivesPlainOperatorsOrFloats) {
  ASSERT_EQ(compress(int4_with({"--form", "reference"})).code, 0);
  const at::Tensor expected = run_saved(output_);
  for (const std::string form : {"reference", "lowered"}) {
    ASSERT_EQ(compress(int4_with({"--form", form})).code, 0);
    for (const std::string format : {"native", "dq", "in_place"}) {
      const std::string path = out_ + "/" + format;
      const auto result = testing::tsquant({"strip", output_, "-o", path, "--format", format});
      ASSERT_EQ(result.code, 0) << result.err;
      EXPECT_FALSE(contains(result.err, "warning")) << result.err;
      EXPECT_FALSE(calls_ours(path));
      EXPECT_TRUE(at::equal(run_saved(path), expected)) << form << " " << format;
      const auto gate = torch::jit::load(path).attr("gate0").toTensor();
      EXPECT_EQ(gate.scalar_type(), format == "in_place" ? c10::kFloat : c10::kByte);
      const auto report = testing::tsquant({"report", path, "--json", "-"}).json();
      EXPECT_EQ(report.at("form"), "reference");
      EXPECT_EQ(report.at("weights").at(1).at("format"), format == "in_place" ? "float" : "int4_asym");
    }
  }
}

}  // namespace
}  // namespace tsquant
