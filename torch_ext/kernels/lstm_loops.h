#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// Units whose gates stand side by side in packed weights.
constexpr int64_t kLstmUnits = 8;

/// One direction of an LSTM layer on some rows of a batch. Gates are ordered as LibTorch orders them: input, forget,
/// cell, output.
struct LstmRows {
  int64_t rows = 0, units = 0;    ///< `units` is a multiple of kLstmUnits
  const float* weight = nullptr;  ///< for every kLstmUnits units, every input unit: their 4 gates [4, kLstmUnits]
  const float* gates = nullptr;   ///< of one step, [rows, 4, units]: products of the input, and biases
  const float* hidden = nullptr;  ///< [rows, units]
  int64_t hidden_stride = 0;
  float* cell = nullptr;  ///< [rows, units], replaced
  float* next = nullptr;  ///< [rows, units], the new hidden state
  int64_t next_stride = 0;
};

/// One step: c = sigmoid(f) * c + sigmoid(i) * tanh(g), h = sigmoid(o) * tanh(c), with the gates `gates + weight * h`.
void lstm_step(const LstmRows& rows);

}  // namespace tsquant::kernels
