#pragma once

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/script.h>

#include <string>

namespace tsquant::bench {

constexpr int64_t kTokens = 32000, kHeadSize = 64;

inline const char* const kBlock = R"(
def attend(self, x: Tensor) -> Tensor:
    b, t = x.size(0), x.size(1)
    q = torch.linear(x, self.q_proj).view([b, t, -1, HEAD]).transpose(1, 2)
    k = torch.linear(x, self.k_proj).view([b, t, -1, HEAD]).transpose(1, 2)
    v = torch.linear(x, self.v_proj).view([b, t, -1, HEAD]).transpose(1, 2)
    share = q.size(1) // k.size(1)
    scores = torch.matmul(q, k.repeat_interleave(share, 1).transpose(2, 3)) * 0.125
    future = torch.triu(torch.ones([t, t], dtype=6, device=x.device), 1) * -10000.0
    y = torch.matmul(torch.softmax(scores + future, -1), v.repeat_interleave(share, 1))
    return torch.linear(y.transpose(1, 2).reshape([b, t, -1]), self.o_proj)

def norm(self, x: Tensor, gain: Tensor) -> Tensor:
    return x * torch.rsqrt(torch.mean(x * x, [-1], True) + 0.00001) * gain

def forward(self, x: Tensor) -> Tensor:
    x = x + self.attend(self.norm(x, self.attention_norm))
    y = self.norm(x, self.mlp_norm)
    y = torch.silu(torch.linear(y, self.gate_proj)) * torch.linear(y, self.up_proj)
    return x + torch.linear(y, self.down_proj)
)";

/// Weights that share one block of random numbers, each beginning elsewhere: as many records of the file as there are
/// weights, without memory for them.
class Weights {
 public:
  explicit Weights(int64_t largest) : numbers_(at::randn({largest + kShifts * kShift}) * 0.02) {}

  at::Tensor next(int64_t rows, int64_t columns) {
    float* begin = numbers_.data_ptr<float>() + next_++ % kShifts * kShift;
    return at::from_blob(begin, {rows, columns}, at::kFloat);
  }

 private:
  static constexpr int64_t kShifts = 4096, kShift = 16;
  at::Tensor numbers_;
  int64_t next_ = 0;
};

/// A Llama-like model of random weights: RMS norms, attention with four query heads for each key, gated blocks; tokens
/// [batch, length] -> logits. Making it needs the memory of its largest weight and, in LibTorch, that of the file.
inline void write_llama_model(const std::string& path, int64_t width, int64_t blocks) {
  at::manual_seed(1);
  Weights weights(kTokens * width);
  std::string code = kBlock;
  for (size_t at = 0; (at = code.find("HEAD")) != std::string::npos;) {
    code.replace(at, 4, std::to_string(kHeadSize));
  }
  torch::jit::Module model("__torch__.Llama");
  model.register_attribute("training", c10::BoolType::get(), false);
  model.register_parameter("embed_tokens", weights.next(kTokens, width), false);
  std::string forward = "def forward(self, ids: Tensor) -> Tensor:\n    x = torch.embedding(self.embed_tokens, ids)\n";
  for (int64_t i = 0; i < blocks; ++i) {
    torch::jit::Module block("__torch__.Block" + std::to_string(i));
    block.register_attribute("training", c10::BoolType::get(), false);
    const auto add = [&](const char* name, int64_t rows, int64_t columns) {
      block.register_parameter(name, weights.next(rows, columns), false);
    };
    add("q_proj", width, width);
    add("k_proj", width / 4, width);
    add("v_proj", width / 4, width);
    add("o_proj", width, width);
    add("gate_proj", 4 * width, width);
    add("up_proj", 4 * width, width);
    add("down_proj", width, 4 * width);
    block.register_parameter("attention_norm", at::ones({width}), false);
    block.register_parameter("mlp_norm", at::ones({width}), false);
    block.define(code);
    model.register_module("block" + std::to_string(i), block);
    forward += fmt::format("    x = self.block{}.forward(x)\n", i);
  }
  model.register_parameter("head", weights.next(kTokens, width), false);
  model.define(forward + "    return torch.linear(x, self.head)\n");
  model.save(path);
}

}  // namespace tsquant::bench
