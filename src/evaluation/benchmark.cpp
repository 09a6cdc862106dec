#include "evaluation/benchmark.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>

#include "evaluation/operator_limits.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using Clock = std::chrono::steady_clock;

class ThreadGuard {
 public:
  explicit ThreadGuard(int threads) : previous_(at::get_num_threads()) { at::set_num_threads(threads); }
  ~ThreadGuard() { at::set_num_threads(previous_); }
  ThreadGuard(const ThreadGuard&) = delete;
  ThreadGuard& operator=(const ThreadGuard&) = delete;

 private:
  int previous_;
};

double run_ms(Runnable& model, const Sample& sample) {
  const auto begin = Clock::now();
  model.run(sample);
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

bool optimize(Runnable& model) {
  if (has_quantized_operators(model.module)) return false;
  model.module.eval();
  auto frozen = torch::jit::freeze(model.module);
  model.module = torch::jit::optimize_for_inference(frozen);
  return true;
}

/// The unit is measured next to the operators, at the clock that the machine has then.
void predict(BenchmarkResult& result) {
  const CostRates& rates = rates_here();
  const double unit = measure_unit();
  result.rates = rates.target;
  for (const OperatorTime& time : result.operators) {
    result.predicted_ms.push_back(predicted_ms(time.name, time.work, rates, unit));
  }
}

/// Next to the operators for the same reason.
void limit(BenchmarkResult& result, int threads) {
  OperatorLimits limits(threads);
  for (const OperatorTime& time : result.operators) result.limit_ms.push_back(limits.limit_ms(time));
}

}  // namespace

std::vector<BenchmarkResult> benchmark(std::vector<Runnable> models, const Sample& sample,
                                       const BenchmarkOptions& options) {
  if (options.threads < 1) throw Error(ErrorCode::kInvalidArgument, "at least one thread is needed", "--threads");
  ThreadGuard threads(options.threads);
  std::vector<BenchmarkResult> results(models.size());
  std::vector<std::vector<double>> times(models.size());
  // The profiling executor specialises during the first runs; kernels pick their primitives at the first.
  constexpr int kWarmUp = 5;
  double round_ms = 0;
  for (size_t m = 0; m < models.size(); ++m) {
    results[m].model = models[m].path;
    if (options.optimize) results[m].optimized = optimize(models[m]);
    double last = 0;
    for (int i = 0; i < kWarmUp; ++i) last = run_ms(models[m], sample);
    round_ms += last;
  }
  const int64_t rounds =
      options.rounds > 0
          ? options.rounds
          : std::min<int64_t>(
                2000, std::max<int64_t>(20, static_cast<int64_t>(options.seconds * 1000 / std::max(round_ms, 1e-3))));
  for (int64_t round = 0; round < rounds; ++round) {
    for (size_t m = 0; m < models.size(); ++m) times[m].push_back(run_ms(models[m], sample));
  }
  for (size_t m = 0; m < models.size(); ++m) {
    results[m].rounds = rounds;
    results[m].median_ms = median(times[m]);
    results[m].min_ms = *std::min_element(times[m].begin(), times[m].end());
    results[m].ratio_to_first = results[m].median_ms / results.front().median_ms;
    if (!options.profile && !options.explain) continue;
    constexpr int64_t kProfiledRounds = 20;
    results[m].operators = time_operators([&] { models[m].run(sample); }, std::min(rounds, kProfiledRounds));
    if (options.explain) predict(results[m]);
    if (options.profile) limit(results[m], options.threads);
  }
  return results;
}

}  // namespace tsquant
