// One step of a recurrent layer, and products with weights that lie in the order in which the steps read them.
#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// Units whose gates stand side by side in packed weights.
constexpr int64_t kRecurrentUnits = 8;

/// Rows times packed weights: for every kRecurrentUnits units and every input their gates [gates, kRecurrentUnits].
/// Every sum starts with the bias and goes through the inputs in their order, whatever the number of rows.
struct GateProducts {
  int64_t rows = 0, inputs = 0, units = 0;  ///< `units` is a multiple of kRecurrentUnits
  const float* x = nullptr;                 ///< [rows, inputs]
  int64_t x_stride = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;  ///< [gates, units]
  float* out = nullptr;         ///< [rows, gates, units]
  int64_t out_stride = 0;
};

void products_of_3_gates(const GateProducts& products);
void products_of_4_gates(const GateProducts& products);

/// One direction of a layer on some rows of a batch.
struct RecurrentRows {
  int64_t rows = 0, units = 0;      ///< `units` is a multiple of kRecurrentUnits
  const float* weight = nullptr;    ///< of the hidden state, as in GateProducts
  const float* gates = nullptr;     ///< of one step, [rows, gates, units]: products of the input, and biases
  const float* hidden = nullptr;    ///< [rows, units]
  float* next = nullptr;            ///< [rows, units], the new hidden state; not `hidden`
  float* cell = nullptr;            ///< LSTM: [rows, units], replaced
  const float* new_bias = nullptr;  ///< GRU: [units], what is added to the hidden state's product of the new gate
};

/// Gates as LibTorch orders them: input, forget, cell, output.
/// c = sigmoid(f) * c + sigmoid(i) * tanh(g), h = sigmoid(o) * tanh(c), with the gates `gates + weight * h`.
void lstm_step(const RecurrentRows& rows);

/// Gates as LibTorch orders them: reset, update, new.
/// n = tanh(gates_n + sigmoid(r) * (weight_n * h + new_bias)), h = (1 - sigmoid(z)) * n + sigmoid(z) * h, with r and z
/// `gates + weight * h`.
void gru_step(const RecurrentRows& rows);

}  // namespace tsquant::kernels
