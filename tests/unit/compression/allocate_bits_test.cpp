#include "compression/allocate_bits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

using Layers = std::vector<std::vector<BitChoice>>;

int64_t bytes_of(const Layers& layers, const std::vector<size_t>& choices) {
  int64_t sum = 0;
  for (size_t i = 0; i < layers.size(); ++i) sum += layers[i][choices[i]].bytes;
  return sum;
}

double error_of(const Layers& layers, const std::vector<size_t>& choices) {
  double sum = 0;
  for (size_t i = 0; i < layers.size(); ++i) sum += layers[i][choices[i]].error;
  return sum;
}

/// The lowest error of all allocations within the budget.
double lowest_error(const Layers& layers, int64_t budget) {
  double best = std::numeric_limits<double>::infinity();
  std::vector<size_t> choices(layers.size(), 0);
  for (;;) {
    if (bytes_of(layers, choices) <= budget) best = std::min(best, error_of(layers, choices));
    size_t i = 0;
    while (i < layers.size() && ++choices[i] == layers[i].size()) choices[i++] = 0;
    if (i == layers.size()) return best;
  }
}

/// Layers of a model: an error that falls by about 4 with each bit, by their own amount.
Layers model_like(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  Layers layers;
  for (size_t i = 0; i < count; ++i) {
    const double weights = 1e5 * std::exp(2 * uniform(random)), sensitivity = std::exp(4 * uniform(random));
    layers.emplace_back();
    for (const double bits : {2.5, 3.25, 3.5, 4.25, 4.5, 8.0}) {
      const double noise = 0.8 + 0.4 * uniform(random);
      layers.back().push_back({static_cast<int64_t>(weights * bits / 8), sensitivity * std::pow(4, -bits) * noise});
    }
  }
  return layers;
}

TEST(AllocateBits, FindsTheOptimumOfSmallModels) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    const auto layer_count = 1 + random() % 6;
    Layers layers;
    int64_t least = 0, most = 0;
    for (size_t i = 0; i < layer_count; ++i) {
      layers.emplace_back();
      const auto choice_count = 1 + random() % 4;
      for (size_t k = 0; k < choice_count; ++k) {
        const auto bytes = static_cast<int64_t>(random() % 50);
        const auto error = static_cast<double>(random() % 100) / 10;
        layers.back().push_back({bytes, error});
      }
      const auto by_bytes = [](const BitChoice& a, const BitChoice& b) { return a.bytes < b.bytes; };
      least += std::min_element(layers.back().begin(), layers.back().end(), by_bytes)->bytes;
      most += std::max_element(layers.back().begin(), layers.back().end(), by_bytes)->bytes;
    }
    const auto budget = least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least + 2));
    const auto found = allocate_bits(layers, budget);
    EXPECT_TRUE(found.optimal);
    EXPECT_NEAR(found.error, lowest_error(layers, budget), 1e-9) << trial;
    EXPECT_LE(found.bytes, budget);
    EXPECT_EQ(found.bytes, bytes_of(layers, found.choices));
    EXPECT_NEAR(found.error, error_of(layers, found.choices), 1e-9);
  }
}

TEST(AllocateBits, SpendsTheBudgetOfLargeModelsToOnePercent) {
  const auto layers = model_like(155, 7);
  const int64_t smallest = bytes_of(layers, std::vector<size_t>(155, 0)),
                largest = bytes_of(layers, std::vector<size_t>(155, 5));
  double last = std::numeric_limits<double>::infinity();
  for (int part = 1; part < 20; ++part) {
    const int64_t budget = smallest + (largest - smallest) * part / 20;
    const auto found = allocate_bits(layers, budget);
    EXPECT_LE(found.bytes, budget);
    EXPECT_GE(static_cast<double>(found.bytes), 0.99 * static_cast<double>(budget));
    EXPECT_LT(found.error, last);
    last = found.error;
  }
}

TEST(AllocateBits, IsBetterThanOneFormatForAllAtEqualBytes) {
  const auto layers = model_like(40, 11);
  for (size_t format = 1; format < 5; ++format) {
    const std::vector<size_t> same(40, format);
    EXPECT_LT(allocate_bits(layers, bytes_of(layers, same)).error, 0.8 * error_of(layers, same));
  }
}

TEST(AllocateBits, TheSearchFindsWhatStepsAloneMiss) {
  // The step with the most error saved per byte leaves no room for the one that saves most.
  const Layers layers{{{0, 10}, {6, 3}}, {{0, 10}, {5, 5}}, {{0, 10}, {5, 5}}};
  const auto steps = allocate_bits(layers, 10, /*most_nodes=*/0), searched = allocate_bits(layers, 10);
  EXPECT_FALSE(steps.optimal);
  EXPECT_EQ(steps.choices, (std::vector<size_t>{1, 0, 0}));
  EXPECT_TRUE(searched.optimal);
  EXPECT_EQ(searched.choices, (std::vector<size_t>{0, 1, 1}));
  EXPECT_EQ(searched.error, 20);
}

TEST(AllocateBits, TakesTheBestOfAllWhereEverythingFits) {
  const Layers layers{{{4, 1}, {2, 3}, {8, 0.5}}, {{5, 2}, {9, 2}}};
  const auto found = allocate_bits(layers, 1000);
  EXPECT_EQ(found.choices, (std::vector<size_t>{2, 0}));
  EXPECT_TRUE(found.optimal);
  EXPECT_EQ(allocate_bits({}, 0).bytes, 0);
}

TEST(AllocateBits, RefusesWhatCannotBe) {
  const auto message_of = [](const Layers& layers, int64_t budget) {
    const auto error = thrown_error([&] { allocate_bits(layers, budget); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return std::string(error.what());
  };
  EXPECT_NE(message_of({{{4, 1}}, {{5, 1}, {7, 0}}}, 8).find("take 9 bytes, more than the budget of 8"),
            std::string::npos);
  EXPECT_NE(message_of({{}}, 8).find("no choice"), std::string::npos);
  EXPECT_NE(message_of({{{-1, 1}}}, 8).find("-1 bytes"), std::string::npos);
  EXPECT_NE(message_of({{{1, NAN}}}, 8).find("an error of nan"), std::string::npos);
  EXPECT_NE(message_of({{{1, -2}}}, 8).find("an error of -2"), std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing
