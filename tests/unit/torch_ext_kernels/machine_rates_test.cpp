#include "kernels/machine_rates.h"

#include <gtest/gtest.h>

#include "targets.h"

namespace tsquant::testing {
namespace {

class MachineRates : public EveryTarget {};

TEST_P(MachineRates, AreThoseOfTheInstructionsThatMayRun) {
  const double floats = kernels::multiply_rate(false), codes = kernels::multiply_rate(true);
  if (GetParam() == kernels::Isa::kScalar) {
    EXPECT_EQ(floats, 0);
    EXPECT_EQ(codes, 0);
    return;
  }
  for (const double rate : {floats, codes}) {
    EXPECT_GT(rate, 1e8);
    EXPECT_LT(rate, 1e13);
  }
  EXPECT_GT(codes, floats / 2) << "a 16-bit product takes no more than two of the steps of a float one";
}

INSTANTIATE_TEST_SUITE_P(targets, MachineRates, all_targets(), target_name);

TEST(ReadRate, MemoryOfEverySizeIsRead) {
  for (const int64_t bytes : {int64_t{-1}, int64_t{0}, int64_t{1}, int64_t{1000}, int64_t{1} << 22}) {
    const double rate = kernels::read_rate(bytes);
    EXPECT_GT(rate, 1e7) << bytes;
    EXPECT_LT(rate, 1e13) << bytes;
  }
}

}  // namespace
}  // namespace tsquant::testing
