#include "base/nearest.h"

#include <gtest/gtest.h>

namespace tsquant::testing {
namespace {

using Names = std::vector<std::string>;

TEST(Nearest, ClosestFirstEachOnce) {
  EXPECT_EQ(nearest("conv3d", {"relu", "conv2d", "conv2d", "conv_transpose2d", "add"}),
            (Names{"conv2d", "add", "relu"}));
  EXPECT_EQ(nearest("conv3d", {"relu", "conv2d"}, 1), Names{"conv2d"});
  EXPECT_EQ(nearest("b", {"c", "a"}), (Names{"a", "c"})) << "equally close ones in alphabetical order";
}

TEST(Nearest, NothingToOffer) { EXPECT_TRUE(nearest("conv2d", {}).empty()); }

}  // namespace
}  // namespace tsquant::testing
