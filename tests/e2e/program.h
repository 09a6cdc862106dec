#pragma once

#include <csignal>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/files.h"

namespace tsquant::testing {

struct Outcome {
  int code = 0;  ///< exit status
  std::string out, err;
  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

/// Runs the program: with one thread in a copy of this process, with more, and the demo, build/bin/tsquant in a fresh
/// process whose
/// LibTorch, oneDNN and OpenBLAS start with this many threads.
Outcome tsquant(const std::vector<std::string>& arguments, int threads = 1);

/// The same in a fresh process after `prepare`: limits, another user, another stdout.
Outcome tsquant_prepared(const std::vector<std::string>& arguments, const std::function<void()>& prepare);

/// The same in a fresh process, but sends SIGINT, or another signal, this long after the program has installed its
/// handler.
Outcome tsquant_interrupted(const std::vector<std::string>& arguments, double after_seconds, int signal = SIGINT);

/// A small residual network with batch normalisation, [N, 3, 16, 16] -> [N, 5], saved to folder/model.pt, and 24
/// images and labels in folder/data.pt. The labels are the network's own predictions, so its top-1 is 100 %.
void write_small_model(const std::string& folder);

/// A network with weights of some size: 256 -> 1024 -> 1024 -> 8, saved to folder/large.pt; 20,000 rows in
/// folder/rows.pt.
void write_large_model(const std::string& folder);

std::vector<std::string> files_in(const std::string& folder);

}  // namespace tsquant::testing
