#include "kernels/lstm_params.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include <sstream>

#include "kernels/lstm_loops.h"

namespace tsquant::kernels {
namespace {

constexpr int64_t kGates = 4, kTensors = 4;  // of a direction: two weights, two biases

at::Tensor floats_of(const at::Tensor& tensor) {
  return (tensor.is_quantized() ? tensor.dequantize() : tensor.to(at::kFloat)).contiguous();
}

/// [4 * units, units] -> [units / 8, units, 4, 8]
at::Tensor pack_hidden(const at::Tensor& weight, int64_t units) {
  return weight.reshape({kGates, units / kLstmUnits, kLstmUnits, units}).permute({1, 3, 0, 2}).contiguous();
}

}  // namespace

LstmParams::LstmParams(State state) : state_(std::move(state)) { check(); }

void LstmParams::check() const {
  const auto& [weights, config] = state_;
  TORCH_CHECK(config.size() == 3 && config[0] > 0, "tsquant: damaged LstmParams");
  TORCH_CHECK(static_cast<int64_t>(weights.size()) == layers() * directions() * kTensors, "tsquant: an LSTM of ",
              layers(), " layers and ", directions(), " directions has ", layers() * directions() * kTensors,
              " weights and biases, but ", weights.size(), " were given");
  TORCH_CHECK(weights[1].defined() && weights[1].dim() == 2, "tsquant: weights of an LSTM have 2 dimensions");
  const int64_t units = weights[1].size(1);
  TORCH_CHECK(units > 0 && units % kLstmUnits == 0, "tsquant: the LSTM kernel takes multiples of ", kLstmUnits,
              " units, but not ", units);
  for (size_t i = 0; i < weights.size(); ++i) {
    const bool is_bias = i % kTensors >= 2, is_hidden = i % kTensors == 1;
    const at::Tensor& tensor = weights[i];
    const bool fits = tensor.defined() && tensor.dim() == (is_bias ? 1 : 2) && tensor.size(0) == kGates * units &&
                      (!is_hidden || tensor.size(1) == units);
    TORCH_CHECK(fits, "tsquant: weight ", i, " of an LSTM with ", units, " units has the shape ", tensor.sizes());
  }
}

std::string LstmParams::description() const {
  std::ostringstream out;
  out << "Lstm(units=" << std::get<0>(state_)[1].size(1) << ", layers=" << layers() << ", directions=" << directions()
      << ")";
  return out.str();
}

void LstmParams::pack() const {
  const auto& weights = std::get<0>(state_);
  const int64_t units = weights[1].size(1);
  for (size_t i = 0; i < weights.size(); i += kTensors) {
    Direction direction;
    direction.input = floats_of(weights[i]).t();
    direction.hidden = pack_hidden(floats_of(weights[i + 1]), units);
    direction.bias = floats_of(weights[i + 2]) + floats_of(weights[i + 3]);
    packed_directions_.push_back(std::move(direction));
  }
}

void LstmParams::run_direction(const Direction& direction, const at::Tensor& x, bool reverse, const at::Tensor& hidden,
                               const at::Tensor& cell, const at::Tensor& output) const {
  const int64_t steps = x.size(0), batch = x.size(1), units = hidden.size(1), stride = output.size(2);
  const at::Tensor gates = at::addmm(direction.bias, x.reshape({steps * batch, x.size(2)}), direction.input);
  float* const out = output.data_ptr<float>() + (reverse ? units : 0);
  constexpr int64_t kRowsPerTask = 4;
  at::parallel_for(0, batch, kRowsPerTask, [&](int64_t begin, int64_t end) {
    LstmRows rows;
    rows.rows = end - begin;
    rows.units = units;
    rows.weight = direction.hidden.data_ptr<float>();
    rows.hidden = hidden.data_ptr<float>() + begin * units;
    rows.hidden_stride = units;
    rows.cell = cell.data_ptr<float>() + begin * units;
    rows.next_stride = stride;
    for (int64_t i = 0; i < steps; ++i) {
      const int64_t row = (reverse ? steps - 1 - i : i) * batch + begin;
      rows.gates = gates.data_ptr<float>() + row * kGates * units;
      rows.next = out + row * stride;
      lstm_step(rows);
      rows.hidden = rows.next;
      rows.hidden_stride = stride;
    }
  });
}

LstmParams::Result LstmParams::run(const at::Tensor& x, const std::vector<at::Tensor>& states) const {
  std::call_once(packed_, [this] { pack(); });
  const int64_t units = packed_directions_[0].hidden.size(1), count = layers() * directions();
  TORCH_CHECK(x.dim() == 3 && x.scalar_type() == at::kFloat, "tsquant: the LSTM expects a float tensor with 3 ",
              "dimensions, but got ", x.toString(), " ", x.sizes());
  at::Tensor sequence = batch_first() ? x.transpose(0, 1) : x;
  const std::vector<int64_t> expected{count, sequence.size(1), units};
  TORCH_CHECK(states.size() == 2 && states[0].sizes() == at::IntArrayRef(expected) &&
                  states[1].sizes() == at::IntArrayRef(expected),
              "tsquant: the states of the LSTM must have the shape ", expected);
  TORCH_CHECK(sequence.size(2) == packed_directions_[0].input.size(0) && sequence.size(0) > 0,
              "tsquant: the LSTM expects sequences of ", packed_directions_[0].input.size(0),
              " features, the input has the shape ", x.sizes());
  const at::Tensor first = states[0].to(at::kFloat).contiguous();
  const at::Tensor cells = states[1].to(at::kFloat).clone(at::MemoryFormat::Contiguous);
  std::vector<at::Tensor> last;
  for (int64_t layer = 0; layer < layers(); ++layer) {
    const at::Tensor output =
        at::empty({sequence.size(0), sequence.size(1), directions() * units}, at::TensorOptions(at::kFloat));
    for (int64_t d = 0; d < directions(); ++d) {
      const int64_t i = layer * directions() + d;
      run_direction(packed_directions_[i], sequence, d == 1, first[i], cells[i], output);
      last.push_back(output[d == 1 ? 0 : -1].narrow(1, d * units, units));
    }
    sequence = output;
  }
  return {batch_first() ? sequence.transpose(0, 1) : sequence, at::stack(last), cells};
}

namespace {

using Lstm = c10::intrusive_ptr<LstmParams>;

Lstm lstm_pack(std::vector<at::Tensor> weights, int64_t layers, bool bidirectional, bool batch_first) {
  const std::vector<int64_t> config{layers, bidirectional ? 1 : 0, batch_first ? 1 : 0};
  return c10::make_intrusive<LstmParams>(LstmParams::State(std::move(weights), config));
}

LstmParams::Result lstm(at::Tensor x, std::vector<at::Tensor> states, Lstm params) { return params->run(x, states); }

}  // namespace

// Schemas are the contract with model files: change them only by adding overloads.
TORCH_LIBRARY_FRAGMENT(tsquant, m) {
  m.class_<LstmParams>("LstmParams")
      .def("__str__", [](const Lstm& self) { return self->description(); })
      .def_pickle([](const Lstm& self) { return self->state(); },
                  [](LstmParams::State state) { return c10::make_intrusive<LstmParams>(std::move(state)); });
  m.def(
      "lstm_pack(Tensor[] weights, int layers, bool bidirectional, bool batch_first) -> "
      "__torch__.torch.classes.tsquant.LstmParams",
      lstm_pack);
  m.def(
      "lstm(Tensor x, Tensor[] states, __torch__.torch.classes.tsquant.LstmParams params) -> (Tensor, Tensor, Tensor)",
      lstm);
}

}  // namespace tsquant::kernels
