#include "compression/weighted_kmeans.h"

#include <algorithm>
#include <cmath>

namespace tsquant {

namespace {

constexpr size_t kBins = 4096;
constexpr int kMaxRounds = 300;
/// Of the whole range: centres that moved less have arrived.
constexpr double kSmallestMove = 1e-6;

}  // namespace

WeightedKMeans::WeightedKMeans(double lowest, double highest)
    : lowest_(lowest), highest_(highest), weights_(kBins), sums_(kBins) {}

void WeightedKMeans::add(double value, double weight) {
  const double position = highest_ > lowest_ ? (value - lowest_) / (highest_ - lowest_) : 0;
  const auto bin = static_cast<size_t>(std::clamp(position, 0.0, 1.0) * static_cast<double>(kBins - 1) + 0.5);
  weights_[bin] += weight;
  sums_[bin] += weight * value;
}

double WeightedKMeans::middle_of(size_t bin) const {
  return lowest_ + static_cast<double>(bin) * (highest_ - lowest_) / static_cast<double>(kBins - 1);
}

std::vector<double> WeightedKMeans::start(int64_t count) const {
  double total = 0;
  for (const double weight : weights_) total += weight;
  std::vector<double> centres{lowest_};
  double below = 0;
  size_t bin = 0;
  for (int64_t i = 1; i + 1 < count; ++i) {
    const double wanted = total * static_cast<double>(i) / static_cast<double>(count - 1);
    while (bin + 1 < kBins && below + weights_[bin] < wanted) below += weights_[bin++];
    centres.push_back(std::max(middle_of(bin), centres.back()));
  }
  centres.push_back(highest_);
  return centres;
}

std::vector<double> WeightedKMeans::means(const std::vector<double>& centres) const {
  std::vector<double> weights(centres.size()), sums(centres.size());
  size_t nearest = 0;
  for (size_t bin = 0; bin < kBins; ++bin) {
    const double value = middle_of(bin);
    while (nearest + 1 < centres.size() && value > (centres[nearest] + centres[nearest + 1]) / 2) ++nearest;
    weights[nearest] += weights_[bin];
    sums[nearest] += sums_[bin];
  }
  auto result = centres;
  for (size_t i = 0; i < centres.size(); ++i) {
    if (weights[i] > 0) result[i] = sums[i] / weights[i];
  }
  return result;
}

std::vector<std::vector<double>> WeightedKMeans::run(int64_t count) const {
  auto centres = start(count);
  auto fixed = std::vector<bool>(centres.size());
  fixed.front() = fixed.back() = true;
  if (lowest_ < 0 && highest_ > 0 && centres.size() > 2) {
    const auto zero = std::min_element(centres.begin() + 1, centres.end() - 1,
                                       [](double a, double b) { return std::fabs(a) < std::fabs(b); });
    *zero = 0;
    fixed[static_cast<size_t>(zero - centres.begin())] = true;
  }
  std::vector<std::vector<double>> kept;
  int next_kept = 0;
  for (int round = 0; round < kMaxRounds; ++round) {
    if (round == next_kept) {
      kept.push_back(centres);
      next_kept = std::max(5, 2 * next_kept);
    }
    auto next = means(centres);
    double move = 0;
    for (size_t i = 0; i < centres.size(); ++i) {
      if (fixed[i]) next[i] = centres[i];
      move = std::max(move, std::fabs(next[i] - centres[i]));
    }
    centres = next;
    if (move <= kSmallestMove * (highest_ - lowest_)) break;
  }
  kept.push_back(centres);
  return kept;
}

}  // namespace tsquant
