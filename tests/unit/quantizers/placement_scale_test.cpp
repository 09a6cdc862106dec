#include <gtest/gtest.h>

#include <ctime>

#include "golden_graph.h"
#include "support/build_under_test.h"

namespace tsquant::testing {
namespace {

/// Graphs on which a step too many per operator, or per pair of operators, took minutes. What takes linear time is far
/// inside the limit, under sanitizers too. Of processor time, which other work on the machine does not change.
const double kLimit = 5 * slower();

size_t points_in_time(const GraphMaker& maker, const OpenVINOQuantizerOptions& options = {}) {
  const std::clock_t begin = std::clock();
  const auto placement = place(maker.graph, options);
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, kLimit);
  return placement.setup.points.size();
}

TEST(PlacementScaleTest, one_tensor_with_many_readers) {
  constexpr int kReaders = 30000;
  GraphMaker maker;
  const int x = maker.input();
  std::vector<int> results;
  for (int i = 0; i < kReaders; ++i) results.push_back(maker.weighted("conv2d", x));
  maker.output(results);
  EXPECT_EQ(points_in_time(maker), kReaders + 1u) << "the weights, and one quantizer for all readers";
}

TEST(PlacementScaleTest, quantizers_that_wait_for_one_that_comes_from_far) {
  constexpr int kConcats = 600;
  GraphMaker maker;
  const int x = maker.input();
  int joined = x;
  for (int i = 0; i < kConcats; ++i) joined = maker.op("cat", {joined, maker.weighted("conv2d", x)});
  maker.output({maker.weighted("conv2d", joined)});
  EXPECT_GT(points_in_time(maker), 2u * kConcats);
}

TEST(PlacementScaleTest, additions_that_lose_a_quantizer) {
  constexpr int kBlocks = 20000;
  GraphMaker maker;
  int x = maker.input();
  for (int i = 0; i < kBlocks; ++i) x = maker.op("add", {x, maker.weighted("conv2d", x)});
  maker.output({x});
  OpenVINOQuantizerOptions options;
  options.target_device = TargetDevice::kCpuSpr;
  const size_t with_pass = points_in_time(maker, options);
  options.target_device = TargetDevice::kCpu;
  EXPECT_LT(with_pass, points_in_time(maker, options)) << "the device adds in the operator before";
}

}  // namespace
}  // namespace tsquant::testing
