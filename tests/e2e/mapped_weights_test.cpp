#include <caffe2/serialize/inline_container.h>
#include <gtest/gtest.h>

#include <cmath>

#include "e2e/program.h"
#include "io/torch_archive.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

/// ids -> embedding -> two linear layers -> head, over 64 tokens.
void write_model(const std::string& path, int64_t width, const std::function<void(at::Tensor&)>& change = {}) {
  at::manual_seed(7);
  auto up = at::randn({2 * width, width});
  if (change) change(up);
  define(R"(
    def forward(self, ids: Tensor) -> Tensor:
      x = torch.embedding(self.table, ids)
      y = torch.linear(torch.relu(torch.linear(x, self.up)), self.down)
      return torch.linear(x + y, self.head)
  )",
         {{"table", at::randn({64, width})},
          {"up", up},
          {"down", at::randn({width, 2 * width}) * 0.1},
          {"head", at::randn({64, width})}})
      .save(path);
}

/// The same model in deflated records, which no loader leaves in the file.
std::string deflated(const std::string& path) {
  TorchArchive archive(path, model_archive());
  const std::string result = temp_dir() + "/deflated.pt";
  caffe2::serialize::PyTorchStreamWriter writer(result);
  for (const auto& name : archive.names()) {
    const std::string bytes = archive.read(name);
    if (name != "version") writer.writeRecord(name, bytes.data(), bytes.size(), /*compress=*/true);
  }
  writer.writeEndOfFile();
  return result;
}

std::vector<std::string> compress(const std::string& model, const std::vector<std::string>& more) {
  std::vector<std::string> words{"compress", model, "--mode", "int4_sym", "--group-size", "32", "--json", "-"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

int64_t peak_of(const Outcome& outcome) {
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return outcome.json()["phases"].back()["peak_bytes"];
}

Outcome fresh(const std::vector<std::string>& words) {
  return tsquant_prepared(words, [] {});
}

TEST(MappedWeights, ADryRunTakesNoMemoryForThem) {
  const auto folder = temp_dir();
  write_model(folder + "/small.pt", 32);
  write_model(folder + "/large.pt", 4096);  // two weights of 134 MB
  constexpr int64_t kWeight = int64_t{8} << 24;
  const int64_t small = peak_of(fresh(compress(folder + "/small.pt", {"--dry-run"})));
  EXPECT_LT(peak_of(fresh(compress(folder + "/large.pt", {"--dry-run"}))) - small, kWeight / 2);
  // One weight and what is made of it at a time: both in memory would be 2.8 weights.
  const auto run = fresh(compress(folder + "/large.pt", {"-o", folder + "/out.pt", "--form", "lowered"}));
  EXPECT_LT(peak_of(run) - small, kWeight * 24 / 10);
}

TEST(MappedWeights, ADryRunDecidesWhatTheRunDecides) {
  const auto folder = temp_dir(), model = folder + "/model.pt";
  write_model(model, 128);
  for (const auto& choice : std::vector<std::vector<std::string>>{
           {"--ratio", "0.5"}, {"--ratio", "0.6", "--all-layers"}, {"--target-size", "0.2"}, {"--all-layers"}}) {
    SCOPED_TRACE(choice.front());
    const auto with = [&](std::vector<std::string> more) {
      more.insert(more.end(), choice.begin(), choice.end());
      return more;
    };
    const auto dry = tsquant(compress(model, with({"--dry-run"})));
    const auto in_memory = tsquant(compress(deflated(model), with({"--dry-run"})));
    const auto real = tsquant(compress(model, with({"-o", folder + "/out.pt"})));
    ASSERT_EQ(dry.code, 0) << dry.err;
    ASSERT_EQ(real.code, 0) << real.err;
    EXPECT_EQ(dry.json()["weights"], in_memory.json()["weights"]);
    const auto plan = dry.json()["weights"], done = real.json()["weights"];
    ASSERT_EQ(plan.size(), done.size());
    for (size_t i = 0; i < plan.size(); ++i) {
      for (const char* key : {"name", "format", "group_size", "score", "compressed_bytes"}) {
        EXPECT_EQ(plan[i][key], done[i][key]) << key;
      }
    }
  }
}

TEST(MappedWeights, ADryRunRefusesTheWeightsThatTheRunRefuses) {
  const auto folder = temp_dir(), model = folder + "/model.pt";
  for (const double value : {NAN, INFINITY}) {
    write_model(model, 128, [&](at::Tensor& up) { up[255][127] = value; });
    const auto dry = tsquant(compress(model, {"--dry-run"}));
    const auto real = tsquant(compress(model, {"-o", folder + "/out.pt"}));
    EXPECT_NE(real.code, 0);
    EXPECT_EQ(dry.code, real.code);
    EXPECT_EQ(dry.err, real.err);
    EXPECT_NE(dry.err.find("up"), std::string::npos) << dry.err;
  }
}

TEST(MappedWeights, TheResultIsThatOfTheOrdinaryLoader) {
  const auto folder = temp_dir(), model = folder + "/model.pt";
  write_model(model, 128);
  for (const std::string form : {"reference", "lowered"}) {
    const auto a = tsquant(compress(model, {"-o", folder + "/a.pt", "--form", form}));
    const auto b = tsquant(compress(deflated(model), {"-o", folder + "/b.pt", "--form", form}));
    ASSERT_EQ(a.code, 0) << a.err;
    ASSERT_EQ(b.code, 0) << b.err;
    TorchArchive from_file(folder + "/a.pt", model_archive()), from_memory(folder + "/b.pt", model_archive());
    ASSERT_EQ(from_file.names(), from_memory.names());
    for (const auto& name : from_file.names()) {
      EXPECT_TRUE(name.rfind("extra/", 0) == 0 || from_file.read(name) == from_memory.read(name)) << name;
    }
  }
}

TEST(MappedWeights, TheModelMayBeReplacedByItsResult) {
  const auto folder = temp_dir(), model = folder + "/model.pt";
  write_model(model, 128);
  const auto outcome = tsquant(compress(model, {"-o", model, "--form", "lowered"}));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(tsquant({"inspect", model}).code, 0);
  EXPECT_EQ(files_in(folder), std::vector<std::string>{"model.pt"});
}

TEST(MappedWeights, InspectPrintsWhatItPrintsForAModelInMemory) {
  const auto folder = temp_dir(), words = folder + "/words.pt", images = folder + "/model.pt";
  write_model(words, 128);
  write_small_model(folder);
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {words}, {words, "--rules"}, {images, "--json", "-", "--input-shape", "1,3,16,16"}}) {
    auto mapped = more, in_memory = more;
    in_memory.front() = deflated(more.front());
    mapped.insert(mapped.begin(), "inspect");
    in_memory.insert(in_memory.begin(), "inspect");
    const auto outcome = tsquant(mapped);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, tsquant(in_memory).out);
  }
}

}  // namespace
}  // namespace tsquant::testing
