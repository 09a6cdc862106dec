#include "distributed/tensor_exchange.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <future>

#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

using Maker = std::unique_ptr<ByteGather> (*)(const Meeting&);

/// Both transports; Gloo only in builds that have its headers.
std::vector<Maker> transports() {
  const auto alone = checked_meeting(testing::temp_dir() + "/store", 0, 1, 5);
  if (make_gloo_gather(alone)) return {&make_store_gather, &make_gloo_gather};
  return {&make_store_gather};
}

std::shared_ptr<StatisticsExchange> join(Maker maker, const std::string& path, int64_t rank, int64_t size,
                                         double timeout = 20) {
  const auto meeting = checked_meeting(path, rank, size, timeout);
  return make_tensor_exchange(meeting, maker(meeting));
}

/// Runs `work` once per rank on threads of their own; the first error is thrown again.
void for_each_rank(Maker maker, int64_t size, const std::function<void(StatisticsExchange&)>& work) {
  const auto path = testing::temp_dir() + "/store";
  std::vector<std::future<void>> ranks;
  for (int64_t rank = 0; rank < size; ++rank) {
    ranks.push_back(std::async(std::launch::async, [&, rank] { work(*join(maker, path, rank, size)); }));
  }
  for (auto& rank : ranks) rank.get();
}

TEST(TensorExchange, EveryRankGetsTheTensorsOfAll) {
  for (const auto maker : transports()) {
    for_each_rank(maker, 3, [](StatisticsExchange& exchange) {
      for (int64_t step = 0; step < 3; ++step) {
        const auto mine = torch::full({exchange.rank(), 2}, 0.5 + static_cast<double>(step), at::kDouble);
        const auto all = exchange.all_gather({mine, torch::tensor({exchange.rank()})});
        ASSERT_EQ(all.size(), 3u);
        for (int64_t rank = 0; rank < 3; ++rank) {
          const auto& theirs = all[static_cast<size_t>(rank)];
          EXPECT_EQ(theirs.at(0).sizes(), (std::vector<int64_t>{rank, 2}));
          EXPECT_EQ(theirs[0].scalar_type(), at::kDouble);
          EXPECT_TRUE(theirs[0].eq(0.5 + static_cast<double>(step)).all().item<bool>());
          EXPECT_EQ(theirs.at(1).item<int64_t>(), rank);
        }
      }
    });
  }
}

TEST(TensorExchange, EmptyListsAndOneRank) {
  for (const auto maker : transports()) {
    for_each_rank(maker, 1, [](StatisticsExchange& exchange) {
      EXPECT_EQ(exchange.rank(), 0);
      EXPECT_EQ(exchange.size(), 1);
      const auto all = exchange.all_gather({});
      ASSERT_EQ(all.size(), 1u);
      EXPECT_TRUE(all[0].empty());
    });
  }
}

TEST(TensorExchange, ALostRankIsAnErrorOnTheOthers) {
  for (const auto maker : transports()) {
    const auto path = testing::temp_dir() + "/store";
    auto other = std::async(std::launch::async, [&] {
      join(maker, path, 1, 2, 2)->all_gather({torch::ones({1})});  // and ends
    });
    const auto exchange = join(maker, path, 0, 2, 2);
    exchange->all_gather({torch::ones({1})});
    other.get();
    try {
      exchange->all_gather({torch::ones({1})});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCalibration);
      EXPECT_EQ(error.place(), "rank 0 of 2");
      EXPECT_EQ(error.message().find("a rank was lost"), 0u) << error.what();
    }
  }
}

TEST(TensorExchange, RanksAtDifferentStepsAreAnError) {
  std::atomic<int> errors{0};
  for_each_rank(&make_store_gather, 2, [&](StatisticsExchange& exchange) {
    try {
      exchange.all_gather(std::vector<at::Tensor>(1 + static_cast<size_t>(exchange.rank()), torch::ones({1})));
    } catch (const Error& error) {
      EXPECT_NE(error.message().find("is at another step"), std::string::npos) << error.what();
      ++errors;
    }
  });
  EXPECT_EQ(errors, 2);
}

TEST(MakeGlooExchange, TheRanksMustMeetInTime) {
  try {
    make_gloo_exchange(testing::temp_dir() + "/store", 0, 2, 1)->all_gather({torch::ones({1})});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCalibration) << error.what();
  }
}

TEST(MakeGlooExchange, WrongValuesAreNamed) {
  const auto place_of = [](const std::string& path, int64_t rank, int64_t size, double timeout) -> std::string {
    try {
      make_gloo_exchange(path, rank, size, timeout);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
      return error.place();
    }
    return "no error";
  };
  EXPECT_EQ(place_of("store", 2, 2, 1), "rank");
  EXPECT_EQ(place_of("store", -1, 2, 1), "rank");
  EXPECT_EQ(place_of("store", 0, 0, 1), "rank");
  EXPECT_EQ(place_of("", 0, 1, 1), "store_path");
  EXPECT_EQ(place_of("store", 0, 1, 0), "timeout_seconds");
  EXPECT_EQ(place_of("store", 0, 1, NAN), "timeout_seconds");
}

}  // namespace
}  // namespace tsquant
