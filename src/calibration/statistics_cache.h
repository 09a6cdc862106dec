#pragma once

#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "calibration/statistics_file.h"

namespace tsquant {

class StatisticsExchange;

/// Decides for every run over the data of one flow whether its statistics are read or collected, and writes what was
/// collected. One object serves all runs of a flow (SmoothQuant, quantization, ...), told apart by "collection".
class StatisticsCache {
 public:
  /// Any may be empty; see statistics_in, statistics_out and statistics_path of QuantizePt2eOptions.
  struct Paths {
    std::string in, out, directory;
  };
  /// @throws Error kInvalidArgument when `in` and `directory` are both given; kIo when `out` cannot be written
  StatisticsCache(Paths paths, std::shared_ptr<StatisticsExchange> exchange);

  /// True when statistics may be read, so that the key of the data is wanted before the run.
  bool may_read() const { return !paths_.in.empty() || !paths_.directory.empty(); }

  /// Statistics that were collected from the same things; null when they have to be collected.
  /// @throws Error kCalibration when the file to read has none or differs in a key: names the key and both values;
  ///         kIo when a cache folder without them cannot be written
  const CollectedStatistics* find(const std::map<std::string, std::string>& keys);

  /// Keeps what was collected, and writes it. Among several processes rank 0 writes.
  void add(CollectedStatistics statistics);

  /// The data key, if it was computed for this number of samples before.
  std::string known_data(int64_t samples) const;
  void remember_data(int64_t samples, std::string key);

 private:
  const CollectedStatistics* find_in_file(const std::map<std::string, std::string>& keys);
  const CollectedStatistics* find_in_directory(const std::map<std::string, std::string>& keys);
  bool writes() const;  ///< among several processes rank 0 does
  void write(const CollectedStatistics& latest) const;

  Paths paths_;
  std::shared_ptr<StatisticsExchange> exchange_;
  bool loaded_ = false;
  std::list<CollectedStatistics> read_;  ///< stays in place, since callers hold pointers
  std::vector<CollectedStatistics> collected_;
  std::map<int64_t, std::string> data_;
};

}  // namespace tsquant
