#include "base/error_text.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace tsquant {
namespace {

std::string shortened(const std::string& text) { return short_message(std::runtime_error(text)); }

TEST(ErrorText, KeepsTheReasonAndDropsWhatLibTorchSaysAboutItself) {
  EXPECT_EQ(shortened("no operator x\nframe #0: f"), "no operator x");
  EXPECT_EQ(shortened("isList() INTERNAL ASSERT FAILED at \"./ivalue.h\":9, please report a bug to PyTorch. "
                      "Expected a list\nframe #0: f"),
            "Expected a list");
  EXPECT_EQ(shortened("x == 1 INTERNAL ASSERT FAILED at \"a.cpp\":3, please report a bug to PyTorch. "),
            "a check failed: x == 1");
  EXPECT_EQ(shortened("[enforce fail at inline_container.cc:145] . failed reading zip archive: no zip"),
            "failed reading zip archive: no zip");
  EXPECT_EQ(shortened("\nUnknown name:\n  File"), "Unknown name:");
  EXPECT_EQ(shortened("no record (Could this error message be improved?  If so, please report it.)"), "no record");
  EXPECT_EQ(shortened("[enforce fail at a.cc:1] . "), "a check failed");
}

}  // namespace
}  // namespace tsquant
