#pragma once

#include <string>
#include <vector>

namespace tsquant::testing {

/// A language model of two gated blocks over 48 tokens with biases, folder/lm.pt, and 12 x 16 tokens in
/// folder/tokens.pt, read with `--inputs tokens`.
void write_small_lm(const std::string& folder);

/// `tsquant compress` of that model.
std::vector<std::string> compress_command(const std::string& folder, const std::string& output,
                                          const std::vector<std::string>& options);

/// Of what takes data.
std::vector<std::string> with_tokens(const std::string& folder, std::vector<std::string> options);

}  // namespace tsquant::testing
