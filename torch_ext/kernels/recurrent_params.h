#pragma once

#include <torch/custom_class.h>

#include <string>
#include <utility>

#include "kernels/recurrent_layers.h"

namespace tsquant::kernels {

/// TorchScript object that holds the layers of an LSTM (`torch.classes.tsquant.LstmParams`) or of a GRU
/// (`torch.classes.tsquant.GruParams`). Files have the weights as they were given.
template <RecurrentKind kKind>
class RecurrentParams : public torch::CustomClassHolder {
 public:
  using State = RecurrentLayers::State;

  /// @throws c10::Error when the shapes do not fit, see RecurrentLayers
  explicit RecurrentParams(State state) : layers_(kKind, std::move(state)) {}

  const RecurrentLayers& layers() const { return layers_; }

 private:
  RecurrentLayers layers_;
};

using LstmParams = RecurrentParams<RecurrentKind::kLstm>;
using GruParams = RecurrentParams<RecurrentKind::kGru>;

}  // namespace tsquant::kernels
