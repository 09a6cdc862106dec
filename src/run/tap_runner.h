#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <memory>
#include <vector>

#include "run/weight_pages.h"
#include "tsquant/model.h"
#include "tsquant/sample.h"

namespace tsquant {

/// A place whose tensor is wanted during a run: the result of a node, or one use of it.
struct TapPoint {
  const torch::jit::Value* value = nullptr;
  /// None (user == null): right after the value is produced. Otherwise right before this user reads its input
  /// `use.offset` (differs when the tensor is written in place in between).
  torch::jit::Use use{nullptr, 0};
};

/// Runs a copy of a model's graph in LibTorch's plain interpreter and hands the tensors at the taps to a callback.
/// Control flow works as in the model; a tap inside a loop fires at each iteration. The model is not changed.
class TapRunner {
 public:
  using Sink = std::function<void(size_t tap, const at::Tensor& tensor)>;

  /// @param deterministic results are the same bits for any batch size and number of threads (deterministic_ops.h);
  /// they may
  ///        then differ in the last bits from what LibTorch's own choice of convolution gives
  /// @param pages of weights that nothing writes into
  TapRunner(const Model& model, const std::vector<TapPoint>& taps, bool deterministic = false,
            WeightPages pages = WeightPages::kKeep);
  ~TapRunner();

  /// Runs one sample without gradients. The tensor given to the sink must be copied if it is kept.
  /// @throws Error kDataset when the arguments do not fit the schema of `forward` or the model rejects them
  c10::IValue run(const Sample& sample, const Sink& sink) const;

  /// True when the model writes its own attributes, so that a sample's result depends on the samples before.
  bool stateful() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Checks a sample against `forward`, fills defaults and orders keyword arguments; the result starts with self.
/// @throws Error kDataset: the message names the argument, the expected type and what was given
std::vector<c10::IValue> bind_arguments(const Model& model, const Sample& sample);

}  // namespace tsquant
