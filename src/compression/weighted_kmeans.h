#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tsquant {

/// Clusters weighted numbers by their distance, from a histogram of them.
class WeightedKMeans {
 public:
  /// @param lowest, highest bounds of all values to come
  WeightedKMeans(double lowest, double highest);

  void add(double value, double weight);

  /// Centres of some rounds of Lloyd's algorithm, the last one among them, each ascending. They start at quantiles of
  /// the weighted distribution. The outermost stay at `lowest` and `highest`, and where values are on both sides of 0,
  /// one stays at 0.
  /// @param count of centres, at least 2
  std::vector<std::vector<double>> run(int64_t count) const;

 private:
  std::vector<double> start(int64_t count) const;
  /// The mean of the values nearest to each centre; centres without values stay.
  std::vector<double> means(const std::vector<double>& centres) const;
  double middle_of(size_t bin) const;

  double lowest_, highest_;
  std::vector<double> weights_, sums_;  ///< of each bin: sum of weights, and of weight times value
};

}  // namespace tsquant
