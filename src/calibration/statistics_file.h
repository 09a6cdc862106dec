#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tsquant {

/// What one run over the data collected, and from what.
struct CollectedStatistics {
  /// What decides the statistics: "collection" (the name of the run), "model", "data", "subset_size", ...
  std::map<std::string, std::string> keys;
  /// Observer::state() by the name of the observer ("point 12", "extra 3"), in order.
  std::vector<std::pair<std::string, std::vector<at::Tensor>>> observers;
};

/// Statistics are kept in an ordinary TorchScript archive: the tensors are buffers t0, t1, ... (`torch.jit.load`), the
/// file extra/statistics.json (`unzip -p FILE '*/statistics.json'`) names the format and its version, and holds the
/// keys and the buffers of each observer.
///
/// `path` never holds half a file, and equal statistics give equal bytes. @throws Error kIo
void write_statistics(const std::string& path, const std::vector<CollectedStatistics>& collections);

/// @throws Error kCalibration when the file is missing, damaged, of another version or no statistics file at all
std::vector<CollectedStatistics> read_statistics(const std::string& path);

}  // namespace tsquant
