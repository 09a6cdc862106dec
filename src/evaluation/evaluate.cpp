#include "evaluation/evaluate.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "tsquant/error.h"

namespace tsquant {

namespace {

using Clock = std::chrono::steady_clock;

/// Logits as [predictions, classes] and their targets, for one batch.
struct Scored {
  at::Tensor logits, targets;
};

Scored align_tokens(at::Tensor logits, const Sample& sample, const at::Tensor& targets) {
  if (logits.dim() < 3) {
    throw Error(ErrorCode::kDataset,
                fmt::format("perplexity needs logits [batch, positions, vocabulary], the model "
                            "returns [{}]",
                            fmt::join(logits.sizes(), ", ")),
                "forward");
  }
  if (targets.defined()) return {logits.flatten(0, -2), targets.flatten()};
  const auto& tokens = sample.args.front().toTensor();
  const int64_t last = tokens.size(-1) - 1;
  return {logits.narrow(-2, 0, last).flatten(0, -2), tokens.narrow(-1, 1, last).flatten()};
}

/// Flattens to one row of class scores per prediction.
at::Tensor class_rows(const at::Tensor& output) {
  if (output.dim() < 2) return output.reshape({-1, 1});
  return output.dim() == 2 ? output : output.flatten(0, -2);
}

struct Totals {
  int64_t scored = 0, right = 0, compared = 0, agreed = 0;
  double nats = 0, seconds = 0;
};

void score_batch(Totals& totals, Metric metric, const at::Tensor& output, const Sample& sample,
                 const at::Tensor& targets) {
  if (metric == Metric::kTop1) {
    const auto rows = class_rows(output);
    if (rows.size(0) != targets.numel()) {
      throw Error(ErrorCode::kDataset,
                  fmt::format("{} predictions for {} labels, {} [{}]", rows.size(0), targets.numel(),
                              c10::toString(targets.scalar_type()), fmt::join(targets.sizes(), ", ")),
                  "--labels", "class numbers are whole numbers, one per prediction");
    }
    totals.right += rows.argmax(-1).eq(targets.flatten()).sum().item<int64_t>();
    totals.scored += rows.size(0);
  } else if (metric == Metric::kPerplexity) {
    const auto [logits, next] = align_tokens(output, sample, targets);
    const auto log_probability = logits.to(c10::kFloat).log_softmax(-1).gather(1, next.to(c10::kLong).unsqueeze(1));
    totals.nats -= log_probability.sum(c10::kDouble).item<double>();
    totals.scored += next.numel();
  }
}

/// A single score per sample (a probability) has no argmax: then the side of 0.5 is the prediction.
at::Tensor predictions(const at::Tensor& rows) { return rows.size(1) == 1 ? rows.gt(0.5).flatten() : rows.argmax(-1); }

void compare_batch(Totals& totals, const at::Tensor& output, const at::Tensor& expected) {
  const auto rows = class_rows(output), reference = class_rows(expected);
  if (rows.sizes() != reference.sizes()) {
    throw Error(ErrorCode::kDataset, "the model and the reference return different shapes", "--reference");
  }
  totals.compared += rows.size(0);
  totals.agreed += predictions(rows).eq(predictions(reference)).sum().item<int64_t>();
}

double percent(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

/// Class numbers are whole numbers, one per sample or one per token.
void check_labels(const at::Tensor& labels) {
  const bool scores = labels.is_floating_point() && labels.dim() > 1 && labels.size(-1) > 1;
  if (labels.dim() < 4 && !scores) return;
  throw Error(
      ErrorCode::kDataset,
      fmt::format("the labels are {} [{}]{}", c10::toString(labels.scalar_type()), fmt::join(labels.sizes(), ", "),
                  labels.dim() > 2 ? ": these look like images" : ": these are no class numbers"),
      "--labels", "name the tensor that holds one whole number per sample");
}

void check(const DataFile& data, Metric metric, bool has_reference) {
  if (metric == Metric::kTop1 && !data.labels.defined()) {
    throw Error(ErrorCode::kDataset, "top1 needs labels", "--labels", "name the tensor that holds them");
  }
  if (metric != Metric::kAgreement && data.labels.defined()) check_labels(data.labels);
  if (metric == Metric::kAgreement && !has_reference) {
    throw Error(ErrorCode::kInvalidArgument, "the metric agreement needs a reference model", "--reference");
  }
  if (data.dataset.length() == 0) throw Error(ErrorCode::kDataset, "the data set is empty", "--data");
}

}  // namespace

Metric metric_from_string(const std::string& name) {
  for (Metric metric : {Metric::kTop1, Metric::kPerplexity, Metric::kAgreement}) {
    if (name == to_string(metric)) return metric;
  }
  throw Error(ErrorCode::kInvalidArgument, "unknown metric \"" + name + "\"", "--metric",
              "use top1, perplexity or agreement");
}

const char* to_string(Metric metric) {
  switch (metric) {
    case Metric::kTop1:
      return "top1";
    case Metric::kPerplexity:
      return "perplexity";
    case Metric::kAgreement:
      return "agreement";
  }
  return "unknown";
}

Evaluation evaluate(const RunSample& model, const DataFile& data, Metric metric, const RunSample& reference,
                    const Progress& progress) {
  check(data, metric, static_cast<bool>(reference));
  Totals totals;
  int64_t row = 0;
  for (int64_t i = 0; i < data.dataset.length(); ++i) {
    const Sample sample = data.dataset.get(i);
    const auto begin = Clock::now();
    const auto output = first_tensor(model(sample));
    totals.seconds += std::chrono::duration<double>(Clock::now() - begin).count();
    at::Tensor targets;
    if (data.labels.defined()) {
      const int64_t size = std::min(data.dataset.batch_size(), data.labels.size(0) - row);
      targets = data.labels.narrow(0, row, size);
      row += size;
    }
    score_batch(totals, metric, output, sample, targets);
    if (reference) compare_batch(totals, output, first_tensor(reference(sample)));
    if (progress && !progress("evaluate", i + 1, data.dataset.length())) {
      throw Error(ErrorCode::kCancelled, "the evaluation was cancelled");
    }
  }
  Evaluation result;
  result.metric = metric;
  result.samples = metric == Metric::kAgreement ? totals.compared : totals.scored;
  result.seconds = totals.seconds;
  if (reference) result.agreement = percent(totals.agreed, totals.compared);
  if (metric == Metric::kTop1) result.value = percent(totals.right, totals.scored);
  if (metric == Metric::kAgreement) result.value = *result.agreement;
  if (metric == Metric::kPerplexity) {
    result.nats = totals.nats / static_cast<double>(std::max<int64_t>(totals.scored, 1));
    result.value = std::exp(*result.nats);
  }
  return result;
}

Evaluation evaluate(Runnable& model, const DataFile& data, Metric metric, Runnable* reference,
                    const Progress& progress) {
  const auto run = [](Runnable& runnable) {
    return RunSample([&runnable](const Sample& sample) { return runnable.run(sample); });
  };
  return evaluate(run(model), data, metric, reference ? run(*reference) : RunSample(), progress);
}

}  // namespace tsquant
