// CompressWeightsOptions::exchange: several ranks make what one process makes.
#include <gtest/gtest.h>

#include <filesystem>

#include "calibration/fingerprint.h"
#include "flows/compression/rank_group.h"
#include "small_lm.h"
#include "support/thrown_error.h"
#include "unit/calibration/shared_ranks.h"

namespace tsquant {
namespace {

using testing::for_each_rank;
using testing::int4_options;
using testing::small_lm;
using testing::thrown_error;
using testing::token_data;
using Mode = CompressWeightsMode;
using Change = std::function<void(CompressWeightsOptions&)>;

CompressWeightsOptions with(CompressWeightsOptions options, const Change& change) {
  change(options);
  return options;
}

CompressWeightsOptions with_data(const Change& change) {
  auto options = int4_options();
  options.dataset = token_data();
  return with(options, change);
}

CompressedModel compress(Model model, const CompressWeightsOptions& options) {
  return compress_weights(model, options);
}

/// Everything that is written, without what LibTorch numbers anew in each process.
std::string content_of(const CompressedModel& result) {
  return fingerprint(result.model) + "\n" + result.report.to_json(/*per_channel=*/false);
}

/// @param options of each rank
std::vector<std::string> contents_of_ranks(int64_t size,
                                           const std::function<CompressWeightsOptions(int64_t)>& options) {
  std::vector<Model> models;
  for (int64_t rank = 0; rank < size; ++rank) models.push_back(small_lm());
  std::vector<std::string> contents(static_cast<size_t>(size));
  for_each_rank(size, [&](std::shared_ptr<StatisticsExchange> exchange) {
    const auto rank = exchange->rank();
    auto own = options(rank);
    own.exchange = exchange;
    contents[static_cast<size_t>(rank)] = content_of(compress(models[static_cast<size_t>(rank)], own));
  });
  return contents;
}

void expect_content_of_one(const CompressWeightsOptions& options, const std::string& name) {
  const std::string alone = content_of(compress(small_lm(), options));
  for (const int64_t size : {2, 3}) {
    for (const auto& content : contents_of_ranks(size, [&](int64_t) { return options; })) {
      EXPECT_EQ(content, alone) << name << " on " << size << " ranks";
    }
  }
}

/// The messages of the errors that the ranks throw.
std::vector<std::string> errors_of_ranks(
    int64_t size, const std::function<CompressWeightsOptions(int64_t)>& options,
    const std::function<Model(int64_t)>& model = [](int64_t) { return small_lm(); }) {
  std::vector<Model> models;
  for (int64_t rank = 0; rank < size; ++rank) models.push_back(model(rank));
  std::vector<std::string> messages(static_cast<size_t>(size));
  for_each_rank(size, [&](std::shared_ptr<StatisticsExchange> exchange) {
    const auto rank = exchange->rank();
    auto own = options(rank);
    own.exchange = exchange;
    messages[static_cast<size_t>(rank)] =
        thrown_error([&] { compress(models[static_cast<size_t>(rank)], own); }).what();
  });
  return messages;
}

TEST(RankGroup, TheLargestItemGoesToTheRankWithLeast) {
  EXPECT_EQ(owners_of({5, 9, 4, 4, 1}, 2), (std::vector<int64_t>{1, 0, 1, 0, 1}));
  EXPECT_EQ(owners_of({1, 1}, 3), (std::vector<int64_t>{0, 1}));
}

TEST(RankGroup, EveryItemIsMadeOnceAndTakenByAll) {
  std::vector<std::vector<size_t>> made(3), taken(3);
  for_each_rank(3, [&](std::shared_ptr<StatisticsExchange> exchange) {
    const auto rank = static_cast<size_t>(exchange->rank());
    RankGroup ranks(exchange);
    const auto make = [&](size_t i) {
      made[rank].push_back(i);
      return LayerResult{{at::full({2}, static_cast<double>(i)), at::Tensor()}, {{"item", i}}};
    };
    ranks.share({3, 1, 1, 1, 5}, make, [&](size_t i, const LayerResult& result) {
      EXPECT_EQ(result.tensors.at(0)[1].item<double>(), static_cast<double>(i));
      EXPECT_FALSE(result.tensors.at(1).defined());
      EXPECT_EQ(result.values.at("item").get<size_t>(), i);
      taken[rank].push_back(i);
    });
  });
  EXPECT_EQ(made, (std::vector<std::vector<size_t>>{{4}, {0}, {1, 2, 3}}));
  EXPECT_EQ(taken, std::vector<std::vector<size_t>>(3, {0, 1, 2, 3, 4}));
}

TEST(RankGroup, ResultsThatOneRankHasReachAll) {
  for_each_rank(2, [&](std::shared_ptr<StatisticsExchange> exchange) {
    RankGroup ranks(exchange);
    std::vector<c10::optional<LayerResult>> results(3);
    if (exchange->rank() == 1) results[1] = LayerResult{{at::ones({3})}};
    results[2] = LayerResult{{at::zeros({1})}};
    ranks.complete(results);
    EXPECT_FALSE(results[0]);
    ASSERT_TRUE(results[1]);
    EXPECT_TRUE(at::equal(results[1]->tensors.at(0), at::ones({3})));
    EXPECT_TRUE(results[2]);
  });
}

TEST(CompressionRanks, WithoutData) {
  expect_content_of_one(int4_options(), "int4_sym");
  expect_content_of_one(with(int4_options(), [](auto& o) { o.mode = Mode::kInt4Asym; }), "int4_asym");
  expect_content_of_one(CompressWeightsOptions(), "int8_asym");
  expect_content_of_one(with(int4_options(), [](auto& o) { o.ratio = 0.5; }), "ratio");
  expect_content_of_one(with(int4_options(), [](auto& o) { o.target_size = 0.25; }), "target_size");
  expect_content_of_one(with(int4_options(), [](auto& o) { o.quality = CompressionQuality::kBest; }), "best");
  expect_content_of_one(with(int4_options(), [](auto& o) { o.awq = true; }), "awq");
  expect_content_of_one(with(int4_options(),
                             [](auto& o) {
                               o.compression_format = CompressionFormat::kFQLora;
                               o.advanced_parameters.lora_adapter_rank = 4;
                             }),
                        "fq_lora");
  expect_content_of_one(with(int4_options(), [](auto& o) { o.form = OutputForm::kLowered; }), "lowered");
}

TEST(CompressionRanks, WithData) {
  expect_content_of_one(with_data([](auto& o) { o.ratio = 0.5; }), "ratio");
  expect_content_of_one(with_data([](auto& o) { o.target_bits_per_weight = 4; }), "target_bits_per_weight");
  expect_content_of_one(with_data([](auto& o) { o.awq = o.scale_estimation = true; }), "awq and scale estimation");
  expect_content_of_one(with_data([](auto& o) { o.gptq = true; }), "gptq");
  expect_content_of_one(with_data([](auto& o) { o.gptq = o.scale_estimation = true; }), "gptq with scale estimation");
  expect_content_of_one(with_data([](auto& o) { o.lora_correction = true; }), "lora_correction");
  expect_content_of_one(with_data([](auto& o) { o.mode = Mode::kAdaptiveCodebook; }), "adaptive_codebook");
}

TEST(CompressionRanks, OfQualityBestWithData) {
  expect_content_of_one(with_data([](auto& o) { o.quality = CompressionQuality::kBest; }), "best");
  expect_content_of_one(with_data([](auto& o) {
                          o.quality = CompressionQuality::kBest;
                          o.lora_correction = true;
                        }),
                        "best with lora_correction");
}

TEST(CompressionRanks, TellsWhichOptionDiffers) {
  for (const auto& message : errors_of_ranks(2, [](int64_t rank) { return int4_options(rank == 0 ? 16 : 8); })) {
    EXPECT_NE(message.find("rank 1 and rank 0 differ"), std::string::npos) << message;
    EXPECT_NE(message.find("group_size"), std::string::npos) << message;
    EXPECT_NE(message.find("compression across processes"), std::string::npos) << message;
  }
}

TEST(CompressionRanks, TellsThatTheModelsDiffer) {
  const auto model = [](int64_t rank) {
    Model model = small_lm();
    if (rank == 1) model.module().attr("up").toTensor()[0][0] += 1;
    return model;
  };
  for (const auto& message : errors_of_ranks(
           2, [](int64_t) { return int4_options(); }, model)) {
    EXPECT_NE(message.find("model is"), std::string::npos) << message;
  }
}

TEST(CompressionRanks, TellsThatTheDataDiffer) {
  const auto first = with_data([](auto& o) { o.gptq = true; });
  auto second = first;
  second.dataset = token_data(11);
  for (const auto& message : errors_of_ranks(2, [&](int64_t rank) { return rank == 0 ? first : second; })) {
    EXPECT_NE(message.find("samples is \"11\" instead of \"12\""), std::string::npos) << message;
  }
}

TEST(CompressionRanks, AFailureOfOneRankIsSaidByAll) {
  // Before they meet, and while they share.
  const auto wrong = [](int64_t rank) { return with(int4_options(), [&](auto& o) { o.ratio = rank == 1 ? 2 : 0.5; }); };
  for (const auto& message : errors_of_ranks(3, wrong)) {
    EXPECT_NE(message.find("ratio is 2"), std::string::npos) << message;
  }
  const auto gptq = with_data([](auto& o) { o.gptq = true; });
  const auto cancelled = [&](int64_t rank) {
    return with(gptq, [&](auto& o) {
      o.progress = [rank](const std::string& phase, int64_t, int64_t) { return rank != 1 || phase != "layers"; };
    });
  };
  for (const auto& message : errors_of_ranks(3, cancelled)) {
    EXPECT_NE(message.find("cancelled"), std::string::npos) << message;
  }
}

/// @param folder of each rank
void expect_continued(const std::function<std::string(int64_t)>& folder) {
  const auto options = with_data([](auto& o) { o.gptq = true; });
  const std::string alone = content_of(compress(small_lm(), options));
  errors_of_ranks(2, [&](int64_t rank) {
    return with(options, [&](auto& o) {
      o.resume_dir = folder(rank);
      o.progress = [](const std::string& phase, int64_t done, int64_t) { return phase != "layers" || done < 3; };
    });
  });
  for (const auto& content : contents_of_ranks(
           2, [&](int64_t rank) { return with(options, [&](auto& o) { o.resume_dir = folder(rank); }); })) {
    EXPECT_EQ(content, alone);
  }
}

TEST(CompressionRanks, ContinueWithOneFolderOrOneEach) {
  const std::string kept = testing::temp_dir();
  expect_continued([&](int64_t) { return kept; });
  expect_continued([&](int64_t rank) { return kept + "/" + std::to_string(rank); });
  EXPECT_FALSE(std::filesystem::is_empty(kept + "/1"));
}

}  // namespace
}  // namespace tsquant
