#pragma once

#include <c10/util/Optional.h>

#include <functional>
#include <string>

#include "evaluation/runnable.h"
#include "tsquant/data_files.h"
#include "tsquant/progress.h"

namespace tsquant {

enum class Metric {
  kTop1,        ///< percentage of samples whose largest output is at the label
  kPerplexity,  ///< exp of the mean cross entropy of the next token
  kAgreement,   ///< percentage of samples with the reference's prediction; needs no labels
};

/// @throws Error kInvalidArgument for other names than top1, perplexity, agreement
Metric metric_from_string(const std::string& name);
const char* to_string(Metric metric);

struct Evaluation {
  Metric metric = Metric::kTop1;
  double value = 0;                 ///< top1 and agreement: percent
  c10::optional<double> nats;       ///< perplexity: mean nats per token
  int64_t samples = 0;              ///< predictions scored: images, or token positions
  double seconds = 0;               ///< spent in the model
  c10::optional<double> agreement;  ///< percentage of predictions that equal the reference's
};

/// Runs one sample through some model.
using RunSample = std::function<c10::IValue(const Sample&)>;

/// Runs all data through the model, and through `reference` when it is not empty.
///
/// Token streams: every position of every window is scored against the following token; a window's first position has
/// no history. Token rows without labels: each row is scored against itself, shifted by one.
/// @throws Error kDataset (no labels, wrong shapes), kInvalidArgument (agreement without reference), kCancelled
Evaluation evaluate(const RunSample& model, const DataFile& data, Metric metric, const RunSample& reference = {},
                    const Progress& progress = {});

/// The same for modules loaded from files; `reference` may be null.
Evaluation evaluate(Runnable& model, const DataFile& data, Metric metric, Runnable* reference = nullptr,
                    const Progress& progress = {});

}  // namespace tsquant
