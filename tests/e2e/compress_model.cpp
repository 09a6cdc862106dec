#include "e2e/compress_model.h"

#include <torch/script.h>

#include "support/support.h"

namespace tsquant::testing {

void write_small_lm(const std::string& folder) {
  at::manual_seed(3);
  const auto weight = [](int64_t out, int64_t in) { return at::randn({out, in}) / 6; };
  std::vector<std::pair<std::string, at::Tensor>> parameters{{"table", at::randn({48, 32})}};
  std::string code = "def forward(self, ids: Tensor) -> Tensor:\n  x = torch.embedding(self.table, ids)\n";
  for (const std::string block : {"0", "1"}) {
    parameters.emplace_back("gate" + block, weight(64, 32));
    parameters.emplace_back("gate_bias" + block, at::randn({64}) / 10);
    parameters.emplace_back("up" + block, weight(64, 32));
    parameters.emplace_back("down" + block, weight(32, 64));
    parameters.emplace_back("down_bias" + block, at::randn({32}) / 10);
    code += "  g = torch.silu(torch.linear(x, self.gate" + block + ", self.gate_bias" + block + "))\n";
    code += "  u = torch.linear(x, self.up" + block + ")\n";
    code += "  x = x + torch.linear(g * u, self.down" + block + ", self.down_bias" + block + ")\n";
  }
  parameters.emplace_back("head", weight(48, 32));
  define(code + "  return torch.linear(x, self.head)\n", parameters).save(folder + "/lm.pt");
  torch::jit::Module data("Data");
  data.register_buffer("tokens", at::randint(0, 48, {12, 16}, at::kLong));
  data.save(folder + "/tokens.pt");
}

std::vector<std::string> compress_command(const std::string& folder, const std::string& output,
                                          const std::vector<std::string>& options) {
  std::vector<std::string> words{"compress", folder + "/lm.pt", "-o", output};
  words.insert(words.end(), options.begin(), options.end());
  return words;
}

std::vector<std::string> with_tokens(const std::string& folder, std::vector<std::string> options) {
  options.insert(options.end(), {"--data", folder + "/tokens.pt", "--inputs", "tokens"});
  return options;
}

std::string CompressesSmallLm::folder_;

void CompressesSmallLm::SetUpTestSuite() {
  folder_ = temp_dir();
  write_small_lm(folder_);
}

void CompressesSmallLm::SetUp() {
  out_ = temp_dir();
  output_ = out_ + "/out.pt";
}

Outcome CompressesSmallLm::compress(const std::vector<std::string>& options) const {
  return tsquant(compress_command(folder_, output_, options));
}

Outcome CompressesSmallLm::compress_with_data(const std::vector<std::string>& options) const {
  return compress(with_tokens(folder_, options));
}

}  // namespace tsquant::testing
