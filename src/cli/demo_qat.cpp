#include "cli/demo_qat.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/optim/adam.h>

#include <algorithm>
#include <chrono>

#include "cli/console.h"
#include "cli/demo_network.h"
#include "tsquant/fx/quantize_fx.h"
#include "tsquant/observer_module.h"

namespace tsquant::cli {

namespace {

using Clock = std::chrono::steady_clock;
using torch::jit::Module;

constexpr int64_t kTestBatch = 250;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// Unsigned codes with a zero point for activations, signed ones per channel for weights: `with_training` gives both
/// a fake quantize that follows the data and the weights.
fx::QConfigMapping mapping_of(const QatDemoOptions& options, bool with_training) {
  fx::QConfig qconfig;
  qconfig.activation.type = with_training ? ObserverType::kMovingAverageMinMax : ObserverType::kHistogram;
  qconfig.activation.dtype = c10::kQUInt8;
  qconfig.activation.quant_min = 0;
  qconfig.activation.quant_max = (int64_t{1} << options.activation_bits) - 1;
  qconfig.weight.type = with_training ? ObserverType::kMovingAveragePerChannelMinMax : ObserverType::kPerChannelMinMax;
  qconfig.weight.dtype = c10::kQInt8;
  qconfig.weight.qscheme = c10::kPerChannelSymmetric;
  qconfig.weight.quant_min = -(int64_t{1} << (options.weight_bits - 1));
  qconfig.weight.quant_max = (int64_t{1} << (options.weight_bits - 1)) - 1;
  if (with_training) {
    qconfig.activation.fake_quantize = qconfig.weight.fake_quantize = FakeQuantizeType::kFakeQuantize;
    qconfig.weight.averaging_constant = 1;  // the range of the weights as they are
  }
  return fx::QConfigMapping().set_global(qconfig);
}

at::Tensor batch(const DigitData& data, int64_t first, int64_t count) {
  return normalised(data.images.narrow(0, first, count));
}

QuantizedModel quantize_after_training(const Model& model, const DigitData& train, const QatDemoOptions& options) {
  Module prepared = fx::prepare_fx(model, mapping_of(options, false), {{batch(train, 0, options.batch_size)}, {}});
  const at::NoGradGuard no_grad;
  for (int64_t first = 0; first < 512; first += options.batch_size) {
    prepared.forward({batch(train, first, options.batch_size)});
  }
  return fx::convert_to_reference_fx(prepared);
}

void set_learning_rate(torch::optim::Optimizer& optimizer, double rate) {
  for (auto& group : optimizer.param_groups()) group.options().set_lr(rate);
}

/// A plain loop of LibTorch. The last quarter trains with the ranges and batch statistics that the result has.
QuantizedModel quantize_with_training(const Model& model, const DigitData& train, const QatDemoOptions& options) {
  Module prepared = fx::prepare_qat_fx(model, mapping_of(options, true), {{batch(train, 0, options.batch_size)}, {}});
  std::vector<at::Tensor> parameters;
  for (const auto& parameter : prepared.parameters()) parameters.push_back(parameter);
  torch::optim::Adam optimizer(parameters, options.learning_rate);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{6});
  const int64_t batches = train.labels.size(0) / options.batch_size, steps = batches * options.epochs;
  at::Tensor order;
  for (int64_t step = 0; step < steps; ++step) {
    if (step % batches == 0) order = at::randperm(train.labels.size(0), generator, at::TensorOptions(c10::kLong));
    if (step == steps * 3 / 4) {
      disable_observer(prepared);
      freeze_bn_stats(prepared);
    }
    const at::Tensor rows = order.narrow(0, step % batches * options.batch_size, options.batch_size);
    set_learning_rate(optimizer,
                      options.learning_rate * static_cast<double>(steps - step) / static_cast<double>(steps));
    optimizer.zero_grad();
    const at::Tensor scores = prepared.forward({normalised(train.images.index_select(0, rows))}).toTensor();
    at::cross_entropy_loss(scores, train.labels.index_select(0, rows)).backward();
    optimizer.step();
    if (options.progress) options.progress(step + 1, steps);
    stop_if_interrupted();
  }
  prepared.eval();
  return fx::convert_to_reference_fx(prepared);
}

double top1_of(const std::string& path, const DigitData& test) {
  const Model model = Model::load(path);
  int64_t right = 0;
  for (int64_t first = 0; first < test.labels.size(0); first += kTestBatch) {
    const at::Tensor scores = model.run({{batch(test, first, kTestBatch)}, {}}).toTensor();
    right += scores.argmax(1).eq(test.labels.narrow(0, first, kTestBatch)).sum().item<int64_t>();
  }
  return 100 * static_cast<double>(right) / static_cast<double>(test.labels.size(0));
}

/// LibTorch's profiling executor would specialise the graphs of training anew; interpreting them is faster here.
class PlainInterpreter {
 public:
  PlainInterpreter() { torch::jit::setGraphExecutorOptimize(false); }
  ~PlainInterpreter() { torch::jit::setGraphExecutorOptimize(before_); }
  PlainInterpreter(const PlainInterpreter&) = delete;
  PlainInterpreter& operator=(const PlainInterpreter&) = delete;

 private:
  bool before_ = torch::jit::getGraphExecutorOptimize();
};

}  // namespace

std::vector<QatDemoRow> compare_with_training(const std::string& folder, const DigitData& train, const DigitData& test,
                                              const QatDemoOptions& options) {
  const PlainInterpreter plain;
  const Model model = Model::load(folder + "/fp32.pt");
  std::vector<QatDemoRow> rows{{"fp32", folder + "/fp32.pt"}};
  const auto quantize = [&](const std::string& name, const auto& make) {
    const auto begin = Clock::now();
    const QuantizedModel result = make(model, train, options);
    rows.push_back(
        {name, folder + "/" + name + ".pt", options.weight_bits, options.activation_bits, seconds_since(begin)});
    result.save(rows.back().path);
    stop_if_interrupted();
  };
  quantize("post_training", quantize_after_training);
  quantize("trained", quantize_with_training);
  for (auto& row : rows) row.top1 = top1_of(row.path, test);
  return rows;
}

}  // namespace tsquant::cli
