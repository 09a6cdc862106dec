#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/demo_data.h"

namespace tsquant::cli {

/// Few bits, so that quantizing after training costs accuracy that training with quantizers brings back.
struct QatDemoOptions {
  int64_t weight_bits = 4, activation_bits = 4;
  int64_t epochs = 4, batch_size = 64;
  double learning_rate = 2e-3;
  std::function<void(int64_t step, int64_t steps)> progress;
};

struct QatDemoRow {
  std::string model, path;
  int64_t weight_bits = 32, activation_bits = 32;
  double seconds = 0;  ///< that making the file took; 0: it was there
  double top1 = 0;     ///< per cent of the test pictures
};

/// Quantizes folder/fp32.pt twice with the same bits, to folder/post_training.pt and folder/trained.pt, and measures
/// the three files on `test`.
std::vector<QatDemoRow> compare_with_training(const std::string& folder, const DigitData& train, const DigitData& test,
                                              const QatDemoOptions& options);

}  // namespace tsquant::cli
