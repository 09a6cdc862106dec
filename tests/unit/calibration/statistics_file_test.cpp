#include "calibration/statistics_file.h"

#include <gtest/gtest.h>
#include <torch/script.h>

#include <filesystem>
#include <fstream>

#include "calibration/statistics_cache.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

std::vector<CollectedStatistics> two_collections() {
  CollectedStatistics first, second;
  first.keys = {{"collection", "activations"}, {"model", "abc"}};
  first.observers = {{"point 1", {torch::tensor({1.5f, NAN}), torch::tensor({int64_t{7}})}},
                     {"extra 1 conv", {torch::empty({0, 3}, at::kDouble)}}};
  second.keys = {{"collection", "smooth_quant"}};
  return {first, second};
}

Error failure(const std::string& path) {
  try {
    read_statistics(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCalibration);
    EXPECT_EQ(error.place(), path);
    return error;
  }
  return Error(ErrorCode::kInternal, "no error");
}

TEST(StatisticsFile, KeepsKeysAndTensors) {
  const auto path = testing::temp_dir() + "/s.pt";
  write_statistics(path, two_collections());
  const auto read = read_statistics(path);
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].keys, two_collections()[0].keys);
  EXPECT_EQ(read[1].keys.at("collection"), "smooth_quant");
  ASSERT_EQ(read[0].observers.size(), 2u);
  EXPECT_EQ(read[0].observers[0].first, "point 1");
  const auto& values = read[0].observers[0].second.at(0);
  EXPECT_EQ(values[0].item<float>(), 1.5f);
  EXPECT_TRUE(std::isnan(values[1].item<float>()));
  EXPECT_EQ(read[0].observers[0].second.at(1).item<int64_t>(), 7);
  EXPECT_EQ(read[0].observers[1].second.at(0).sizes(), (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(read[0].observers[1].second.at(0).scalar_type(), at::kDouble);
}

TEST(StatisticsFile, IsAnArchiveThatOtherToolsRead) {
  const auto path = testing::temp_dir() + "/s.pt";
  write_statistics(path, two_collections());
  torch::jit::ExtraFilesMap extra{{"statistics.json", ""}};
  const auto module = torch::jit::load(path, c10::kCPU, extra);
  EXPECT_EQ(module.attr("t1").toTensor().item<int64_t>(), 7);
  EXPECT_NE(extra["statistics.json"].find("\"collection\": \"smooth_quant\""), std::string::npos);
}

TEST(StatisticsFile, ReplacesAFileAndLeavesNothingBeside) {
  const auto folder = testing::temp_dir();
  write_statistics(folder + "/s.pt", {});
  write_statistics(folder + "/s.pt", two_collections());
  EXPECT_EQ(read_statistics(folder + "/s.pt").size(), 2u);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files += entry.is_regular_file() ? 1 : 0;
  EXPECT_EQ(files, 1u);
}

TEST(StatisticsFile, SaysWhatIsWrongWithAFile) {
  const auto folder = testing::temp_dir();
  EXPECT_EQ(failure(folder + "/absent.pt").message(), "the statistics file does not exist");
  std::ofstream(folder + "/text.pt") << "no archive";
  EXPECT_EQ(failure(folder + "/text.pt").message(), "the statistics file is damaged or no archive");
  torch::jit::Module("other").save(folder + "/other.pt");
  EXPECT_EQ(failure(folder + "/other.pt").message(), "this archive holds no statistics");
  torch::jit::Module("other").save(folder + "/next.pt",
                                   {{"statistics.json", R"({"format": "tsquant statistics", "version": 2})"}});
  EXPECT_EQ(failure(folder + "/next.pt").message(), "the statistics file has version 2, this program reads version 1");
  torch::jit::Module("other").save(folder + "/half.pt", {{"statistics.json", R"({"format": "tsquant statistics",
    "version": 1, "collections": [{"keys": {}, "observers": [{"name": "a", "tensors": ["t0"]}]}]})"}});
  EXPECT_NE(failure(folder + "/half.pt").message().find("do not fit its table"), std::string::npos);
}

TEST(StatisticsFile, EqualStatisticsGiveEqualBytes) {
  const auto folder = testing::temp_dir();
  const auto bytes = [&](const std::string& name) {
    write_statistics(folder + "/" + name, two_collections());
    std::ifstream file(folder + "/" + name, std::ios::binary);
    return std::string{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  };
  const std::string first = bytes("a.pt");
  EXPECT_FALSE(first.empty());
  EXPECT_TRUE(bytes("another_name.pt") == first);
  EXPECT_TRUE(bytes("a.pt") == first);
}

TEST(StatisticsCache, LooksBeforeTheRunWhetherItCanWrite) {
  const std::string folder = testing::temp_dir();
  const auto code_of = [](const StatisticsCache::Paths& paths) {
    try {
      StatisticsCache cache(paths, nullptr);
      cache.find({{"collection", "activations"}});
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code_of({"", folder + "/absent/s.pt", ""}), ErrorCode::kIo);
  std::ofstream(folder + "/file") << "no folder";
  EXPECT_EQ(code_of({"", "", std::string(5000, 'd')}), ErrorCode::kCalibration);
  EXPECT_NE(code_of({"", "", folder + "/file"}), ErrorCode::kInternal);
}

TEST(StatisticsFile, AFolderThatIsNotThereIsAnIoError) {
  try {
    write_statistics(testing::temp_dir() + "/absent/s.pt", {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
  }
}

}  // namespace
}  // namespace tsquant
