#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "e2e/program.h"

namespace tsquant::testing {

/// A language model of two gated blocks over 48 tokens with biases, folder/lm.pt, and 12 x 16 tokens in
/// folder/tokens.pt, read with `--inputs tokens`.
void write_small_lm(const std::string& folder);

/// `tsquant compress` of that model.
std::vector<std::string> compress_command(const std::string& folder, const std::string& output,
                                          const std::vector<std::string>& options);

/// Of what takes data.
std::vector<std::string> with_tokens(const std::string& folder, std::vector<std::string> options);

/// Tests of `tsquant compress` on that model, each with a folder of its own for what it writes.
class CompressesSmallLm : public ::testing::Test {
 protected:
  static void SetUpTestSuite();
  void SetUp() override;

  Outcome compress(const std::vector<std::string>& options) const;
  Outcome compress_with_data(const std::vector<std::string>& options) const;

  static std::string folder_;  ///< of the model and its data
  std::string out_, output_;   ///< folder, and out.pt in it
};

}  // namespace tsquant::testing
