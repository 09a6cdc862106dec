#include "kernels/recurrent_layers.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <sstream>

#include "kernels/recurrent_loops.h"

namespace tsquant::kernels {
namespace {

constexpr int64_t kTensors = 4;  // of a direction: two weights, two biases
/// Their states stay in the nearest cache beside the weights of some units.
constexpr int64_t kMostSequences = 12;
constexpr int64_t kRowsAtOnce = 12;  // of products of the input

at::Tensor floats_of(const at::Tensor& tensor) {
  return (tensor.is_quantized() ? tensor.dequantize() : tensor.to(at::kFloat)).contiguous();
}

/// Enough for every thread to have some, in threes as the kernel computes them. The results do not depend on it.
int64_t sequences_together(int64_t batch) {
  const int64_t threads = at::get_num_threads(), share = (batch + threads - 1) / threads;
  return std::min(kMostSequences, (share + 2) / 3 * 3);
}

/// Some sequences of a batch in one direction of a layer.
struct Sequences {
  GateProducts products;  ///< of one row
  RecurrentRows rows;
  int64_t gates = 0, steps = 0;
  int64_t x_step = 0, x_row = 0;      ///< between rows of `products.x`
  int64_t out_step = 0, out_row = 0;  ///< between rows of `output`
  float* output = nullptr;            ///< of the first step
  float* hidden = nullptr;            ///< the first state, replaced by the last
  void (*multiply)(const GateProducts&) = nullptr;
  void (*advance)(const RecurrentRows&) = nullptr;
};

/// Gates [count, rows, gates, units] from the input of `count` steps. Rows of one matrix product are those of one
/// step, or those of one sequence when there are few sequences.
void multiply_inputs(const Sequences& some, int64_t first, int64_t count, float* out) {
  GateProducts p = some.products;
  const int64_t row_size = some.gates * p.units, step_size = some.rows.rows * row_size;
  const float* x = p.x + first * some.x_step;
  const bool by_step = some.rows.rows >= count;
  p.rows = by_step ? some.rows.rows : count;
  p.x_stride = by_step ? some.x_row : some.x_step;
  p.out_stride = by_step ? row_size : step_size;
  for (int64_t i = 0; i < (by_step ? count : some.rows.rows); ++i) {
    p.x = x + i * (by_step ? some.x_step : some.x_row);
    p.out = out + i * (by_step ? step_size : row_size);
    some.multiply(p);
  }
}

void run_sequences(const Sequences& some) {
  const int64_t count = some.rows.rows, units = some.rows.units, size = count * units;
  const int64_t at_once = std::max<int64_t>(1, kRowsAtOnce / count);
  std::vector<float> gates(at_once * size * some.gates), states(2 * size);
  std::copy_n(some.hidden, size, states.data());
  RecurrentRows rows = some.rows;
  for (int64_t step = 0; step < some.steps; ++step) {
    if (step % at_once == 0) multiply_inputs(some, step, std::min(at_once, some.steps - step), gates.data());
    rows.gates = gates.data() + step % at_once * size * some.gates;
    rows.hidden = states.data() + step % 2 * size;
    rows.next = states.data() + (step + 1) % 2 * size;
    some.advance(rows);
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(rows.next + i * units, units, some.output + step * some.out_step + i * some.out_row);
    }
  }
  std::copy_n(states.data() + some.steps % 2 * size, size, some.hidden);
}

}  // namespace

RecurrentLayers::RecurrentLayers(RecurrentKind kind, State state) : kind_(kind), state_(std::move(state)) { check(); }

void RecurrentLayers::check() const {
  const auto& [weights, config] = state_;
  TORCH_CHECK(config.size() == 3 && config[0] > 0 && config[0] <= static_cast<int64_t>(weights.size()),
              "tsquant: damaged parameters of a recurrent layer");
  TORCH_CHECK(static_cast<int64_t>(weights.size()) == layers() * directions() * kTensors, "tsquant: a ", name(), " of ",
              layers(), " layers and ", directions(), " directions has ", layers() * directions() * kTensors,
              " weights and biases, but ", weights.size(), " were given");
  for (size_t i = 0; i < 2; ++i) {
    TORCH_CHECK(weights[i].defined() && weights[i].dim() == 2, "tsquant: weights of a ", name(), " have 2 dimensions");
  }
  TORCH_CHECK(units() > 0 && units() % kRecurrentUnits == 0, "tsquant: the ", name(), " kernel takes multiples of ",
              kRecurrentUnits, " units, but not ", units());
  for (size_t i = 0; i < weights.size(); ++i) {
    const bool is_bias = i % kTensors >= 2, is_hidden = i % kTensors == 1;
    const bool is_first = static_cast<int64_t>(i) < directions() * kTensors;
    const int64_t inputs = is_hidden ? units() : is_first ? weights[0].size(1) : directions() * units();
    const at::Tensor& tensor = weights[i];
    const bool fits = tensor.defined() && tensor.dim() == (is_bias ? 1 : 2) && tensor.size(0) == gates() * units() &&
                      (is_bias || tensor.size(1) == inputs);
    TORCH_CHECK(fits, "tsquant: weight ", i, " of a ", name(), " with ", units(), " units has the shape ",
                tensor.sizes());
    TORCH_CHECK(tensor.layout() == at::kStrided && tensor.device().is_cpu(), "tsquant: weight ", i, " of a ", name(),
                " must be a dense tensor on the CPU");
  }
}

std::string RecurrentLayers::description() const {
  std::ostringstream out;
  out << name() << "(units=" << units() << ", layers=" << layers() << ", directions=" << directions() << ")";
  return out.str();
}

/// [gates * units, inputs] -> [units / 8, inputs, gates, 8]
at::Tensor RecurrentLayers::packed(const at::Tensor& weight) const {
  return floats_of(weight)
      .reshape({gates(), units() / kRecurrentUnits, kRecurrentUnits, weight.size(1)})
      .permute({1, 3, 0, 2})
      .contiguous();
}

void RecurrentLayers::pack() const {
  const auto& weights = std::get<0>(state_);
  for (size_t i = 0; i < weights.size(); i += kTensors) {
    Direction direction{packed(weights[i]), packed(weights[i + 1]), floats_of(weights[i + 2]).clone(), {}};
    at::Tensor of_hidden = floats_of(weights[i + 3]);
    if (kind_ == RecurrentKind::kGru) {
      direction.new_bias = of_hidden.narrow(0, 2 * units(), units()).clone();
      of_hidden = of_hidden.clone();
      of_hidden.narrow(0, 2 * units(), units()).zero_();
    }
    direction.bias.add_(of_hidden);
    packed_directions_.push_back(std::move(direction));
  }
}

void RecurrentLayers::run_direction(const Direction& direction, const at::Tensor& x, bool reverse,
                                    const at::Tensor& hidden, const at::Tensor& cell, const at::Tensor& output) const {
  const bool is_lstm = kind_ == RecurrentKind::kLstm;
  const int64_t steps = x.size(0), batch = x.size(1), features = x.size(2), stride = output.size(2);
  const int64_t first = reverse ? (steps - 1) * batch : 0, step = reverse ? -batch : batch;  // in rows
  const auto* values = x.data_ptr<float>();
  auto* results = output.data_ptr<float>() + (reverse ? units() : 0);
  const auto run = [&](int64_t begin, int64_t end) {
    Sequences some;
    some.gates = gates(), some.steps = steps;
    some.x_step = step * features, some.x_row = features;
    some.out_step = step * stride, some.out_row = stride;
    some.output = results + (first + begin) * stride;
    some.hidden = hidden.data_ptr<float>() + begin * units();
    some.multiply = is_lstm ? products_of_4_gates : products_of_3_gates;
    some.advance = is_lstm ? lstm_step : gru_step;
    some.products.inputs = features, some.products.units = units();
    some.products.x = values + (first + begin) * features;
    some.products.weight = direction.input.data_ptr<float>();
    some.products.bias = direction.bias.data_ptr<float>();
    some.rows.rows = end - begin, some.rows.units = units();
    some.rows.weight = direction.hidden.data_ptr<float>();
    if (is_lstm) some.rows.cell = cell.data_ptr<float>() + begin * units();
    if (!is_lstm) some.rows.new_bias = direction.new_bias.data_ptr<float>();
    run_sequences(some);
  };
  const int64_t size = std::max<int64_t>(1, sequences_together(batch)), tiles = (batch + size - 1) / size;
  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) run(i * size, std::min(batch, (i + 1) * size));
  });
}

void RecurrentLayers::check_inputs(const at::Tensor& x, const std::vector<at::Tensor>& states) const {
  TORCH_CHECK(
      x.defined() && x.layout() == at::kStrided && x.device().is_cpu() && x.dim() == 3 && x.scalar_type() == at::kFloat,
      "tsquant: the ", name(), " expects a float tensor with 3 ", "dimensions, but got ", x.toString(), " ", x.sizes());
  const int64_t features = std::get<0>(state_)[0].size(1);
  TORCH_CHECK(x.size(2) == features && x.size(batch_first() ? 1 : 0) > 0, "tsquant: the ", name(),
              " expects sequences of ", features, " features, the input has the shape ", x.sizes());
  const std::vector<int64_t> expected{layers() * directions(), x.size(batch_first() ? 0 : 1), units()};
  TORCH_CHECK(states.size() == (kind_ == RecurrentKind::kLstm ? 2 : 1), "tsquant: an LSTM has 2 states, a GRU 1");
  for (const at::Tensor& state : states) {
    TORCH_CHECK(state.defined() && state.layout() == at::kStrided && state.device().is_cpu() &&
                    state.sizes() == at::IntArrayRef(expected),
                "tsquant: the states of the ", name(), " must be dense tensors on the CPU of the shape ", expected,
                ", but have ", state.sizes());
  }
}

RecurrentLayers::Result RecurrentLayers::run(const at::Tensor& x, const std::vector<at::Tensor>& states) const {
  check_inputs(x, states);
  std::call_once(packed_, [this] { pack(); });
  const auto copy_of = [](const at::Tensor& state) { return state.to(at::kFloat).clone(at::MemoryFormat::Contiguous); };
  Result result{batch_first() ? x.transpose(0, 1) : x, copy_of(states[0]), {}};
  if (states.size() > 1) result.cell = copy_of(states[1]);
  for (int64_t layer = 0; layer < layers(); ++layer) {
    const at::Tensor input = result.output.contiguous();
    const at::Tensor output =
        at::empty({input.size(0), input.size(1), directions() * units()}, at::TensorOptions(at::kFloat));
    for (int64_t d = 0; d < directions(); ++d) {
      const int64_t i = layer * directions() + d;
      const at::Tensor cell = result.cell.defined() ? result.cell[i] : at::Tensor();
      run_direction(packed_directions_[i], input, d == 1, result.hidden[i], cell, output);
    }
    result.output = output;
  }
  if (batch_first()) result.output = result.output.transpose(0, 1);
  return result;
}

RecurrentLayers::Result RecurrentLayers::step(const at::Tensor& x, const std::vector<at::Tensor>& states) const {
  TORCH_CHECK(layers() == 1 && directions() == 1 && !batch_first(), "tsquant: a cell has one layer and one direction");
  TORCH_CHECK(x.defined() && x.dim() == 2, "tsquant: a cell expects 2 dimensions");
  std::vector<at::Tensor> first;
  for (const at::Tensor& state : states) {
    TORCH_CHECK(state.defined() && state.dim() == 2, "tsquant: the states of a cell have 2 dimensions");
    first.push_back(state.unsqueeze(0));
  }
  const Result result = run(x.unsqueeze(0), first);
  return {{}, result.hidden[0], result.cell.defined() ? result.cell[0] : at::Tensor()};
}

}  // namespace tsquant::kernels
