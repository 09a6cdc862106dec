#include "compression/scale_search.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "compression/group_codec.h"
#include "compression/group_rows.h"
#include "compression/round_to_nearest.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Scale and zero point of one group.
struct Point {
  float scale = 1;
  int64_t zero = 0;
};

/// What all groups have in common.
class Search {
 public:
  Search(const QParams& q, const QuantizationSpec& spec, const ScaleSearchOptions& options)
      : codec_(q), options_(options), low_(q.quant_min), high_(q.quant_max) {
    const bool integer = format_info(q.format).integer;
    has_signs_ = integer && spec.mode == QuantizationScheme::kSymmetric;
    has_zeros_ = integer && spec.mode == QuantizationScheme::kAsymmetric;
  }

  const GroupCodec& codec() const { return codec_; }

  /// Scales of both signs for symmetric integers, whose lowest code has no counterpart.
  std::vector<Point> starts(Point base) const {
    std::vector<Point> points{base};
    if (has_signs_) points.push_back({-base.scale, base.zero});
    if (!has_zeros_) return points;
    for (const int64_t zero : {base.zero - 1, base.zero + 1}) {
      if (zero >= low_ && zero <= high_) points.push_back({base.scale, zero});
    }
    return points;
  }

  float shrunk(float scale, int step) const {
    const double part = options_.steps > 1 ? static_cast<double>(step) / (options_.steps - 1) : 0;
    return static_cast<float>(scale * (1 - part * (1 - options_.smallest)));
  }

  int steps() const { return options_.steps; }

 private:
  GroupCodec codec_;
  const ScaleSearchOptions& options_;
  int64_t low_, high_;
  bool has_signs_ = false, has_zeros_ = false;
};

/// One group: its values, and the best point so far with its codes.
class GroupSearch {
 public:
  GroupSearch(const Search& search, const float* w, const float* h, int64_t size)
      : search_(search), w_(w), h_(h), size_(size), levels_(size), codes_(size), best_codes_(size) {
    for (int64_t i = 0; i < size; ++i) values_ += static_cast<double>(h[i]) * w[i] * w[i];
  }

  void run(Point base) {
    const GroupCodec& codec = search_.codec();
    try_point(base);
    for (const Point& start : search_.starts(base)) {
      float last = 0;
      for (int step = 0; step < search_.steps(); ++step) {
        const float scale = codec.storable(search_.shrunk(start.scale, step));
        if (scale == last || !codec.usable(scale)) continue;
        last = scale;
        const Fit fit = try_point({scale, start.zero});
        if (fit.error < error_ && codec.usable(fit.scale)) try_point({codec.storable(fit.scale), start.zero});
      }
    }
  }

  const Point& best() const { return best_; }
  const std::vector<uint8_t>& codes() const { return best_codes_; }

 private:
  /// The best scale for some codes, and the error with it.
  struct Fit {
    float scale;
    double error;
  };

  Fit try_point(Point point) {
    search_.codec().encode(w_, size_, point.scale, point.zero, codes_.data(), levels_.data());
    double error = 0, product = 0, square = 0;
    for (int64_t i = 0; i < size_; ++i) {
      const float level = levels_[i];
      const double difference = static_cast<double>(w_[i]) - level * point.scale;
      error += h_[i] * difference * difference;
      product += static_cast<double>(h_[i]) * w_[i] * level;
      square += static_cast<double>(h_[i]) * level * level;
    }
    if (error < error_) {
      error_ = error;
      best_ = point;
      best_codes_.swap(codes_);
    }
    if (square == 0) return {0, error};
    return {static_cast<float>(product / square), values_ - product * product / square};
  }

  const Search& search_;
  const float *w_, *h_;
  int64_t size_;
  std::vector<float> levels_;
  std::vector<uint8_t> codes_, best_codes_;
  double values_ = 0;  ///< sum of h w^2
  Point best_;
  double error_ = std::numeric_limits<double>::infinity();
};

void check_options(const ScaleSearchOptions& options) {
  if (options.steps >= 1 && options.smallest > 0 && options.smallest <= 1) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("a search of {} steps down to {}", options.steps, options.smallest), "ScaleSearchOptions",
              "give at least one step, and a smallest factor above 0 and at most 1");
}

at::Tensor importance_of(const at::Tensor& weight, const at::Tensor& importance) {
  if (!importance.defined()) return at::ones(weight.sizes(), at::kFloat);
  const auto values = importance.detach().to(at::kFloat);
  if (!(at::isfinite(values) & (values >= 0)).all().item<bool>()) {
    throw Error(ErrorCode::kInvalidArgument, "the importance of weights is negative, NaN or infinite", "importance",
                "check the calibration data");
  }
  if (!at::is_expandable_to(values.sizes(), weight.sizes())) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("an importance of shape [{}] does not fit a weight of shape [{}]",
                            fmt::join(values.sizes(), ", "), fmt::join(weight.sizes(), ", ")),
                "importance", "give one value for each input channel");
  }
  return values.expand_as(weight);
}

}  // namespace

CompressedWeight search_scales(const at::Tensor& weight, const QuantizationSpec& spec, const at::Tensor& importance,
                               const ScaleSearchOptions& options) {
  check_options(options);
  auto result = round_to_nearest(weight, spec);
  QParams& q = result.qparams;
  const GroupRows rows(weight, q);
  const auto w = rows.rows_of(weight.detach().to(at::kFloat)), h = rows.rows_of(importance_of(weight, importance));
  const auto scale = whole_scales(q);
  q.zero_point = q.zero_point.contiguous();
  auto codes = at::empty(w.sizes(), at::TensorOptions(q.dtype));
  auto* code = static_cast<uint8_t*>(codes.data_ptr());
  auto* zero = q.zero_point.data_ptr<int64_t>();
  const Search search(q, spec, options);
  const int64_t size = w.size(1);
  at::parallel_for(0, w.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      GroupSearch group(search, w.data_ptr<float>() + row * size, h.data_ptr<float>() + row * size, size);
      group.run({scale.data_ptr<float>()[row], zero[row]});
      scale.data_ptr<float>()[row] = group.best().scale;
      zero[row] = group.best().zero;
      std::copy(group.codes().begin(), group.codes().end(), code + row * size);
    }
  });
  result.codes = rows.from_rows(codes);
  set_whole_scales(q, scale);
  return result;
}

double weighted_error(const at::Tensor& weight, const CompressedWeight& compressed, const at::Tensor& importance) {
  const auto difference = decompress(compressed).to(at::kDouble) - weight.detach().to(at::kFloat).to(at::kDouble);
  return (difference * difference * importance_of(weight, importance).to(at::kDouble)).sum().item<double>();
}

}  // namespace tsquant
