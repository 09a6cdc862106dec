#pragma once

#include <string>
#include <vector>

#include "tsquant/dataset.h"
#include "tsquant/model.h"

namespace tsquant {

class StatisticsExchange;

/// Reads the samples of a run and refuses NaN and infinite values; hashes what it reads when a statistics file has to
/// know the data.
class SampleReader {
 public:
  SampleReader(const Model& model, const Dataset& dataset, int64_t total, bool hash);

  /// @throws Error kDataset from the data set, kCalibration: names the input and the sample
  Sample get(int64_t index);

  /// The number of samples and a digest of their contents in order. Samples that were not read yet are read now; among
  /// several processes each reads its share.
  std::string data_key(StatisticsExchange* exchange);

 private:
  const Dataset& dataset_;
  std::vector<std::string> names_;
  std::vector<std::string> hashes_;  ///< empty when nothing is hashed
};

}  // namespace tsquant
