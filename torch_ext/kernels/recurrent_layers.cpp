#include "kernels/recurrent_layers.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <sstream>

#include "kernels/recurrent_sequences.h"

namespace tsquant::kernels {
namespace {

constexpr int64_t kTensors = 4;  // of a direction: two weights, two biases
/// Their states stay in the nearest cache beside the weights of some units.
constexpr int64_t kMostSequences = 12;

at::Tensor floats_of(const at::Tensor& tensor) {
  return (tensor.is_quantized() ? tensor.dequantize() : tensor.to(at::kFloat)).contiguous();
}

/// Enough for every thread to have some, in threes as the kernel computes them. The results do not depend on it.
int64_t sequences_together(int64_t batch) {
  const int64_t threads = at::get_num_threads(), share = (batch + threads - 1) / threads;
  return std::min(kMostSequences, (share + 2) / 3 * 3);
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

void RecurrentLayers::run_direction(const Direction& direction, const at::Tensor& x, const SequenceRows& batch,
                                    bool reverse, const at::Tensor& hidden, const at::Tensor& cell,
                                    const at::Tensor& output) const {
  const bool is_lstm = kind_ == RecurrentKind::kLstm;
  SequenceRun all;
  all.gates = gates(), all.reverse = reverse;
  all.output = output.data_ptr<float>() + (reverse ? units() : 0), all.out_stride = output.size(1);
  all.multiply = is_lstm ? products_of_4_gates : products_of_3_gates;
  all.advance = is_lstm ? lstm_step : gru_step;
  all.products.inputs = x.size(1), all.products.units = units();
  all.products.x = x.data_ptr<float>();
  all.products.weight = direction.input.data_ptr<float>();
  all.products.bias = direction.bias.data_ptr<float>();
  all.rows.units = units();
  all.rows.weight = direction.hidden.data_ptr<float>();
  if (!is_lstm) all.rows.new_bias = direction.new_bias.data_ptr<float>();
  const auto run = [&](int64_t begin, int64_t end) {
    SequenceRun some = all;
    some.begin = begin, some.rows.rows = end - begin;
    some.hidden = hidden.data_ptr<float>() + begin * units();
    if (is_lstm) some.rows.cell = cell.data_ptr<float>() + begin * units();
    run_sequences(some, batch);
  };
  const int64_t count = batch.batch(), size = std::max<int64_t>(1, sequences_together(count));
  at::parallel_for(0, (count + size - 1) / size, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) run(i * size, std::min(count, (i + 1) * size));
  });
}

RecurrentLayers::Result RecurrentLayers::run_layers(const at::Tensor& x, const SequenceRows& batch,
                                                    const std::vector<at::Tensor>& states) const {
  std::call_once(packed_, [this] { pack(); });
  const auto copy_of = [](const at::Tensor& state) { return state.to(at::kFloat).clone(at::MemoryFormat::Contiguous); };
  Result result{x, copy_of(states[0]), {}};
  if (states.size() > 1) result.cell = copy_of(states[1]);
  for (int64_t layer = 0; layer < layers(); ++layer) {
    const at::Tensor input = result.output.contiguous();
    const at::Tensor output = at::empty({input.size(0), directions() * units()}, at::TensorOptions(at::kFloat));
    for (int64_t d = 0; d < directions(); ++d) {
      const int64_t i = layer * directions() + d;
      const at::Tensor cell = result.cell.defined() ? result.cell[i] : at::Tensor();
      run_direction(packed_directions_[i], input, batch, d == 1, result.hidden[i], cell, output);
    }
    result.output = output;
  }
  return result;
}

void RecurrentLayers::check_input(const at::Tensor& x, int64_t dimensions) const {
  TORCH_CHECK(x.defined() && x.layout() == at::kStrided && x.device().is_cpu() && x.dim() == dimensions &&
                  x.scalar_type() == at::kFloat,
              "tsquant: the ", name(), " expects a float tensor with ", dimensions, " dimensions, but got ",
              x.toString(), " ", x.sizes());
  const int64_t features = std::get<0>(state_)[0].size(1);
  TORCH_CHECK(x.size(-1) == features && x.size(dimensions == 3 && batch_first() ? 1 : 0) > 0, "tsquant: the ", name(),
              " expects sequences of ", features, " features, the input has the shape ", x.sizes());
}

void RecurrentLayers::check_states(const std::vector<at::Tensor>& states, int64_t batch) const {
  const std::vector<int64_t> expected{layers() * directions(), batch, units()};
  TORCH_CHECK(states.size() == (kind_ == RecurrentKind::kLstm ? 2 : 1), "tsquant: an LSTM has 2 states, a GRU 1");
  for (const at::Tensor& state : states) {
    TORCH_CHECK(state.defined() && state.layout() == at::kStrided && state.device().is_cpu() &&
                    state.sizes() == at::IntArrayRef(expected),
                "tsquant: the states of the ", name(), " must be dense tensors on the CPU of the shape ", expected,
                ", but have ", state.sizes());
  }
}

RecurrentLayers::Result RecurrentLayers::run(const at::Tensor& x, const std::vector<at::Tensor>& states) const {
  check_input(x, 3);
  const at::Tensor steps_first = batch_first() ? x.transpose(0, 1) : x;
  const int64_t steps = steps_first.size(0), batch = steps_first.size(1);
  check_states(states, batch);
  const at::Tensor rows = steps_first.reshape({steps * batch, x.size(2)});
  Result result = run_layers(rows, SequenceRows(std::vector<int64_t>(steps, batch)), states);
  result.output = result.output.view({steps, batch, directions() * units()});
  if (batch_first()) result.output = result.output.transpose(0, 1);
  return result;
}

RecurrentLayers::Result RecurrentLayers::run_packed(const at::Tensor& data, const at::Tensor& batch_sizes,
                                                    const std::vector<at::Tensor>& states) const {
  check_input(data, 2);
  TORCH_CHECK(batch_sizes.defined() && batch_sizes.dim() == 1 && batch_sizes.scalar_type() == at::kLong &&
                  batch_sizes.device().is_cpu() && batch_sizes.numel() > 0,
              "tsquant: the sizes of the steps of packed sequences must be integers on the CPU");
  const at::Tensor sizes = batch_sizes.contiguous();
  const auto* first = sizes.data_ptr<int64_t>();
  std::vector<int64_t> values(first, first + sizes.numel());
  TORCH_CHECK(values.back() > 0 && std::is_sorted(values.rbegin(), values.rend()) && values.front() <= data.size(0),
              "tsquant: packed sequences are sorted by length, the longest first");
  const SequenceRows batch(std::move(values));
  TORCH_CHECK(batch.total() == data.size(0), "tsquant: packed sequences have ", batch.total(), " rows, the data ",
              data.size(0));
  check_states(states, batch.batch());
  return run_layers(data, batch, states);
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
