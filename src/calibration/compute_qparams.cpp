#include <ATen/ATen.h>

#include <set>

#include "calibration/activation_taps.h"
#include "calibration/calibrator.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Errors of `compute` with the place of the quantizer.
template <typename Compute>
auto at_point(const QuantizationPoint& point, const Compute& compute) -> decltype(compute()) {
  try {
    return compute();
  } catch (const Error& error) {
    throw Error(error.code(), error.message(), error.place().empty() ? place_of(point) : error.place(), error.advice());
  }
}

QParams params_of(const QuantizationPoint& point, const Range& range) {
  return at_point(point, [&] { return choose_qparams(range, point.spec, point.kind); });
}

Range range_of(const QuantizationPoint& point, const Observer& observer) {
  return at_point(point, [&] { return observer.range(); });
}

/// Min of mins and max of maxes over the members that were reached; undefined when none was.
Range joint_range(const Annotations& annotations, const std::vector<int64_t>& group, const StatTable& stats) {
  Range joint;
  for (int64_t id : group) {
    const auto found = stats.observers.find(id);
    const auto* point = annotations.find(id);
    if (found == stats.observers.end() || !point) continue;
    const auto range = range_of(*point, *found->second);
    if (!joint.min.defined()) {
      joint = range;
    } else {
      if (joint.min.sizes() != range.min.sizes()) {
        throw Error(ErrorCode::kInvalidArgument, "the points of a unified group have different numbers of channels", "",
                    "use per-tensor specs in unified groups");
      }
      joint = {at::minimum(joint.min, range.min), at::maximum(joint.max, range.max)};
    }
  }
  return joint;
}

}  // namespace

QParamTable compute_qparams(const Annotations& annotations, const StatTable& stats) {
  QParamTable table;
  std::set<int64_t> grouped;
  for (const auto& group : annotations.unified_scale_groups) {
    grouped.insert(group.begin(), group.end());
    const auto* first = group.empty() ? nullptr : annotations.find(group.front());
    if (!first) continue;
    const auto range = joint_range(annotations, group, stats);
    if (!range.min.defined() && needs_statistics(first->spec)) continue;
    const auto params = params_of(*first, range);
    for (int64_t id : group) table[id] = params;
  }
  for (const auto& point : annotations.points) {
    if (grouped.count(point.id) > 0) continue;
    const auto found = stats.observers.find(point.id);
    if (!needs_statistics(point.spec)) {
      table[point.id] = params_of(point, {});
    } else if (found != stats.observers.end()) {
      table[point.id] = params_of(point, range_of(point, *found->second));
    }
  }
  return table;
}

}  // namespace tsquant
