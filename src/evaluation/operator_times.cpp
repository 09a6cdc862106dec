#include "evaluation/operator_times.h"

#include <ATen/record_function.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "evaluation/quantized_operator.h"

namespace tsquant {

namespace {

using Clock = std::chrono::steady_clock;

struct CallTotals {
  int64_t calls = 0;
  double seconds = 0, bytes = 0;
  OperatorWork work;
};

/// By name and shapes. Operators also run in the threads of prim::fork.
struct Table {
  std::mutex mutex;
  std::map<std::pair<std::string, std::string>, CallTotals> totals;
};

/// How many operators of this thread have begun and not ended.
thread_local int depth = 0;
/// Where the callbacks write, which LibTorch hands on to the threads of prim::fork: one model is timed at a time.
Table* recorded = nullptr;
std::mutex one_at_a_time;

struct Begun : at::ObserverContext {
  std::string shapes;
  double bytes = 0;
  Products products;
  Clock::time_point begin;
};

void visit_tensors(const c10::IValue& value, const std::function<void(const at::Tensor&)>& visit) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) visit(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) visit(tensor);
  }
}

double bytes_of(const at::Tensor& tensor) {
  return static_cast<double>(tensor.numel()) * static_cast<double>(tensor.element_size());
}

std::unique_ptr<at::ObserverContext> start(const at::RecordFunction& call) {
  if (depth++ > 0) return nullptr;
  auto begun = std::make_unique<Begun>();
  for (const c10::IValue& input : call.inputs()) {
    visit_tensors(input, [&](const at::Tensor& tensor) {
      begun->shapes += fmt::format("{}{}", begun->shapes.empty() ? "" : " ", fmt::join(tensor.sizes(), "x"));
      begun->bytes += bytes_of(tensor);
    });
  }
  begun->products = products_of_call(call.name(), call.inputs());
  begun->bytes += begun->products.weight_bytes;
  begun->begin = Clock::now();
  return begun;
}

void end(const at::RecordFunction& call, at::ObserverContext* context) {
  const auto now = Clock::now();
  --depth;
  auto* begun = static_cast<Begun*>(context);
  if (!begun) return;
  for (const c10::IValue& output : call.outputs()) {
    visit_tensors(output, [&](const at::Tensor& tensor) { begun->bytes += bytes_of(tensor); });
  }
  const std::lock_guard<std::mutex> lock(recorded->mutex);
  CallTotals& totals = recorded->totals[{call.name(), begun->shapes}];
  ++totals.calls;
  totals.seconds += std::chrono::duration<double>(now - begun->begin).count();
  totals.bytes += begun->bytes;
  totals.work += work_of_call(begun->products, call.outputs());
}

}  // namespace

std::vector<OperatorTime> time_operators(const std::function<void()>& run, int64_t rounds) {
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  Table table;
  rounds = std::max<int64_t>(rounds, 1);
  recorded = &table;
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(start, end).needsInputs(true).needsOutputs(true).scopes({at::RecordScope::FUNCTION}));
  const auto stop = [&] {
    at::removeCallback(handle);
    recorded = nullptr;
  };
  try {
    for (int64_t round = 0; round < rounds; ++round) run();
  } catch (...) {
    stop();
    throw;
  }
  stop();
  std::vector<OperatorTime> times;
  for (const auto& [key, totals] : table.totals) {
    const auto per_run = 1 / static_cast<double>(rounds);
    const OperatorWork work{totals.work.values * per_run, totals.work.multiply_adds * per_run,
                            totals.work.channel_multiply_adds * per_run};
    times.push_back({key.first, key.second, static_cast<double>(totals.calls) * per_run, totals.seconds * per_run * 1e3,
                     totals.bytes * per_run / 1e6, work, is_quantized_operator(key.first)});
  }
  std::stable_sort(times.begin(), times.end(), [](const auto& a, const auto& b) { return a.ms > b.ms; });
  return times;
}

}  // namespace tsquant
