#include "flows/range_remarks.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "calibration/activation_taps.h"
#include "numerics/qparams.h"
#include "observers/quantile_range_observer.h"

namespace tsquant {

namespace {

using Places = std::vector<std::string>;

/// "3 tensors (a, b, c)", with the first few.
std::string list_tensors(const Places& places) {
  constexpr size_t kShown = 5;
  const Places first(places.begin(), places.begin() + static_cast<long>(std::min(places.size(), kShown)));
  return fmt::format("{} tensor{} ({}{})", places.size(), places.size() == 1 ? "" : "s", fmt::join(first, ", "),
                     places.size() > kShown ? ", ..." : "");
}

void warn_about_samples(const Annotations& annotations, const StatTable& stats, Report& report) {
  constexpr auto kEnough = static_cast<int64_t>(QuantileRangeObserver::kFewestSamples);
  int64_t covering = -1, measured = 0;
  for (const auto& point : annotations.points) {
    const auto found = stats.observers.find(point.id);
    if (point.kind != PointKind::kActivation || found == stats.observers.end()) continue;
    ++measured;
    if (const auto* observer = dynamic_cast<const QuantileRangeObserver*>(found->second.get())) {
      covering = std::max(covering, observer->samples());
    }
  }
  if (covering >= 0 && covering < kEnough) {
    report.warnings.push_back(fmt::format(
        "calibration saw {} samples: with fewer than {}, the range of an activation is the mean of the samples' minima "
        "and maxima, so that about every second sample has values beyond it; with {} or more it covers 95 of 100 "
        "samples. Give more samples (300 are the default)",
        covering, kEnough, kEnough));
  } else if (covering < 0 && measured > 0 && stats.samples >= 0 && stats.samples < kEnough) {
    report.warnings.push_back(
        fmt::format("calibration saw {} samples: the ranges of activations say little about other data. Give {} or "
                    "more (300 are the default)",
                    stats.samples, kEnough));
  }
}

/// @return the tensors, by point
std::set<int64_t> warn_about_values(const Annotations& annotations, const StatTable& stats, Report& report) {
  // Fewer values than this may all be equal by chance, as in the result of a classifier with two classes.
  constexpr int64_t kEnoughValues = 256;
  std::set<int64_t> points;
  Places places;
  for (const auto& point : annotations.points) {
    const auto found = stats.distinct.find(point.id);
    if (found == stats.distinct.end()) continue;
    const auto& values = found->second;
    if (values.count() >= DistinctValues::kMany || values.seen() < kEnoughValues) continue;
    points.insert(point.id);
    places.push_back(
        fmt::format("{}: {}", place_of(point), values.count() == 1 ? "constant" : fmt::to_string(values.count())));
  }
  if (places.empty()) return points;
  report.warnings.push_back(
      fmt::format("{} took fewer than {} different values in calibration: their ranges hold for these values only. "
                  "Check that the samples are like the data that the model will see",
                  list_tensors(places), DistinctValues::kMany));
  return points;
}

void warn_about_widened(const Annotations& annotations, const QParamTable& qparams, const std::set<int64_t>& known,
                        Report& report) {
  Places places;
  for (const auto& point : annotations.points) {
    const auto found = qparams.find(point.id);
    if (found == qparams.end() || known.count(point.id) || !has_smallest_scale(found->second, point.spec)) continue;
    places.push_back(place_of(point));
  }
  if (places.empty()) return;
  report.warnings.push_back(
      fmt::format("{}: the values are so small that the range was widened to the smallest one allowed; they use few "
                  "levels, or none. Scale the tensors up, or ignore these operators",
                  list_tensors(places)));
}

/// "conv1 input 1: channels 3, 7, ..."
std::string channels_of(const QuantizationPoint& point, const at::Tensor& channels) {
  if (!point.spec.per_channel) return place_of(point);
  constexpr int64_t kShown = 4;
  std::vector<int64_t> first;
  for (int64_t i = 0; i < std::min(kShown, channels.numel()); ++i) first.push_back(channels[i].item<int64_t>());
  return fmt::format("{}: channel{} {}{}", place_of(point), channels.numel() == 1 ? "" : "s", fmt::join(first, ", "),
                     channels.numel() > kShown ? fmt::format(" and {} more", channels.numel() - kShown) : "");
}

/// NNCF takes the scale of a symmetric quantizer from the upper bound alone. Its own upper bound is the largest
/// magnitude; a quantile of the values themselves knows nothing of the negative side.
void warn_about_one_side(const Annotations& annotations, const QParamTable& qparams, Report& report) {
  Places places;
  for (const auto& point : annotations.points) {
    const auto found = qparams.find(point.id);
    if (found == qparams.end()) continue;
    const at::Tensor cut = channels_without_negative_side(found->second, point.spec);
    if (cut.numel() > 0) places.push_back(channels_of(point, cut));
  }
  if (places.empty()) return;
  report.warnings.push_back(
      fmt::format("{}: the scale of a symmetric quantizer comes from the upper bound of the range, and most of the "
                  "negative values lie beyond it. Use abs_quantile for the upper bound, or minimum and maximum",
                  list_tensors(places)));
}

}  // namespace

void warn_about_ranges(const Annotations& annotations, const QParamTable& qparams, const StatTable& stats,
                       Report& report) {
  warn_about_samples(annotations, stats, report);
  const auto known = warn_about_values(annotations, stats, report);
  warn_about_widened(annotations, qparams, known, report);
  warn_about_one_side(annotations, qparams, report);
}

}  // namespace tsquant
