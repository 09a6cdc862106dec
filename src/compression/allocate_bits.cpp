#include "compression/allocate_bits.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tsquant/error.h"

namespace tsquant {

namespace {

using Choices = std::vector<BitChoice>;

void check_choices(const std::vector<Choices>& layers, int64_t budget) {
  int64_t smallest = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto refuse = [&](const std::string& message) {
      throw Error(ErrorCode::kInvalidArgument, message, fmt::format("layer {}", i), "");
    };
    if (layers[i].empty()) refuse("a layer has no choice of format");
    int64_t least = layers[i].front().bytes;
    for (const BitChoice& choice : layers[i]) {
      if (choice.bytes < 0) refuse(fmt::format("a choice of {} bytes", choice.bytes));
      if (!(choice.error >= 0) || !std::isfinite(choice.error)) refuse(fmt::format("an error of {}", choice.error));
      least = std::min(least, choice.bytes);
    }
    smallest += least;
  }
  if (smallest <= budget) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("the smallest formats of all layers take {} bytes, more than the budget of {}", smallest, budget),
      "target_size", "allow more bytes, or formats of fewer bits");
}

/// The convex hull of (bytes, error) from the smallest choice on: places in order, each with less error.
std::vector<size_t> hull_of(const Choices& choices) {
  std::vector<size_t> order(choices.size()), hull;
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return choices[a].bytes != choices[b].bytes ? choices[a].bytes < choices[b].bytes
                                                : choices[a].error < choices[b].error;
  });
  const auto slope = [&](size_t from, size_t to) {
    return (choices[from].error - choices[to].error) / static_cast<double>(choices[to].bytes - choices[from].bytes);
  };
  for (const size_t place : order) {
    if (!hull.empty() && choices[place].error >= choices[hull.back()].error) continue;
    while (hull.size() > 1 && slope(hull.back(), place) >= slope(hull[hull.size() - 2], hull.back())) hull.pop_back();
    hull.push_back(place);
  }
  return hull;
}

/// From one place of a layer's hull to the next.
struct HullStep {
  size_t layer, to;
  int64_t bytes;
  double slope;  ///< error saved per byte
};

class Allocator {
 public:
  Allocator(const std::vector<Choices>& layers, int64_t budget) : layers_(layers), budget_(budget) {}

  BitAllocation run(int64_t most_nodes) {
    take_hull_steps();
    fill();
    best_ = current_;
    search(most_nodes);
    return best_;
  }

 private:
  void take_hull_steps() {
    std::vector<HullStep> steps;
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      const auto& choices = layers_[layer];
      const auto hull = hull_of(choices);
      current_.choices.push_back(hull.front());
      current_.bytes += choices[hull.front()].bytes;
      current_.error += choices[hull.front()].error;
      for (size_t i = 1; i < hull.size(); ++i) {
        const BitChoice &from = choices[hull[i - 1]], &to = choices[hull[i]];
        const int64_t bytes = to.bytes - from.bytes;
        steps.push_back({layer, hull[i], bytes, (from.error - to.error) / static_cast<double>(bytes)});
      }
    }
    std::stable_sort(steps.begin(), steps.end(),
                     [](const HullStep& a, const HullStep& b) { return a.slope > b.slope; });
    for (const HullStep& step : steps) {
      if (current_.bytes + step.bytes > budget_) {
        multiplier_ = step.slope;
        return;
      }
      change(step.layer, step.to);
    }
    multiplier_ = 0;
  }

  /// Spends what is left on the change that saves most, again and again.
  void fill() {
    for (;;) {
      size_t layer = layers_.size(), to = 0;
      double most = 0;
      for (size_t i = 0; i < layers_.size(); ++i) {
        const BitChoice& now = layers_[i][current_.choices[i]];
        for (size_t place = 0; place < layers_[i].size(); ++place) {
          const BitChoice& other = layers_[i][place];
          if (current_.bytes - now.bytes + other.bytes > budget_ || now.error - other.error <= most) continue;
          most = now.error - other.error;
          layer = i;
          to = place;
        }
      }
      if (layer == layers_.size()) return;
      change(layer, to);
    }
  }

  void change(size_t layer, size_t to) {
    const BitChoice &now = layers_[layer][current_.choices[layer]], &other = layers_[layer][to];
    current_.bytes += other.bytes - now.bytes;
    current_.error += other.error - now.error;
    current_.choices[layer] = to;
  }

  double reduced(const BitChoice& choice) const {
    return choice.error + multiplier_ * static_cast<double>(choice.bytes);
  }

  /// Depth first. With multiplier m the errors of layers still to choose are at least
  /// sum of min(error + m bytes) - m (bytes left).
  void search(int64_t most_nodes) {
    const size_t count = layers_.size();
    least_bytes_.assign(count + 1, 0);
    least_reduced_.assign(count + 1, 0);
    orders_.clear();
    for (size_t layer = count; layer-- > 0;) {
      const auto& choices = layers_[layer];
      int64_t bytes = choices.front().bytes;
      double least = reduced(choices.front());
      for (const BitChoice& choice : choices) {
        bytes = std::min(bytes, choice.bytes);
        least = std::min(least, reduced(choice));
      }
      least_bytes_[layer] = least_bytes_[layer + 1] + bytes;
      least_reduced_[layer] = least_reduced_[layer + 1] + least;
    }
    for (const auto& choices : layers_) {
      std::vector<size_t> order(choices.size());
      std::iota(order.begin(), order.end(), size_t{0});
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t a, size_t b) { return reduced(choices[a]) < reduced(choices[b]); });
      orders_.push_back(std::move(order));
    }
    nodes_left_ = most_nodes;
    chosen_.assign(count, 0);
    visit(0, 0, 0);
    best_.optimal = nodes_left_ > 0;
  }

  void visit(size_t layer, int64_t bytes, double error) {
    if (nodes_left_ == 0) return;
    --nodes_left_;
    if (layer == layers_.size()) {
      if (error >= best_.error) return;
      best_ = {chosen_, bytes, error, false};
      return;
    }
    for (const size_t place : orders_[layer]) {
      const BitChoice& choice = layers_[layer][place];
      const int64_t now = bytes + choice.bytes;
      const double sum = error + choice.error;
      if (now + least_bytes_[layer + 1] > budget_) continue;
      if (sum + least_reduced_[layer + 1] - multiplier_ * static_cast<double>(budget_ - now) >= best_.error) continue;
      chosen_[layer] = place;
      visit(layer + 1, now, sum);
    }
  }

  const std::vector<Choices>& layers_;
  int64_t budget_;
  BitAllocation current_, best_;
  double multiplier_ = 0;
  std::vector<int64_t> least_bytes_;   ///< of the layers from here on
  std::vector<double> least_reduced_;  ///< of the layers from here on: sum of min(error + multiplier bytes)
  std::vector<std::vector<size_t>> orders_;
  std::vector<size_t> chosen_;
  int64_t nodes_left_ = 0;
};

}  // namespace

BitAllocation allocate_bits(const std::vector<std::vector<BitChoice>>& layers, int64_t budget, int64_t most_nodes) {
  check_choices(layers, budget);
  return Allocator(layers, budget).run(most_nodes);
}

}  // namespace tsquant
