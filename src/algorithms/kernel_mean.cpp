#include "algorithms/kernel_mean.h"

#include <ATen/ATen.h>

#include "algorithms/sequential_sum.h"
#include "observers/saved_state.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

int64_t end_of(const KernelReads& r) { return r.first + r.count * r.step; }

bool overlap(const KernelReads& a, const KernelReads& b) {
  return a.step == b.step && (a.first - b.first) % a.step == 0 && a.first < end_of(b) && b.first < end_of(a);
}

/// Sums of the positions that each kernel offset reads, for one row of `size` values `distance` apart.
template <typename T>
void sum_reads(const T* x, int64_t distance, const std::vector<KernelReads>& reads, double* out, int64_t out_distance) {
  for (size_t k = 0; k < reads.size(); ++k) {
    const auto& r = reads[k];
    // Offsets that read nearly the same positions differ at the borders only.
    if (k > 0 && overlap(reads[k - 1], r)) {
      const auto& p = reads[k - 1];
      const int64_t end = end_of(r), previous_end = end_of(p);
      double sum = out[(static_cast<int64_t>(k) - 1) * out_distance];
      for (int64_t i = p.first; i < r.first; i += r.step) sum -= x[i * distance];
      for (int64_t i = r.first; i < p.first; i += r.step) sum += x[i * distance];
      for (int64_t i = previous_end; i < end; i += r.step) sum += x[i * distance];
      for (int64_t i = end; i < previous_end; i += r.step) sum -= x[i * distance];
      out[static_cast<int64_t>(k) * out_distance] = sum;
      continue;
    }
    out[static_cast<int64_t>(k) * out_distance] = sum_of(x + r.first * distance, r.count, r.step * distance);
  }
}

std::vector<KernelReads> all_reads(const KernelGeometry& geometry, size_t axis, int64_t size) {
  std::vector<KernelReads> reads;
  for (int64_t k = 0; k < geometry.kernel[axis]; ++k) reads.push_back(geometry.reads(axis, k, size));
  return reads;
}

/// Contracts the last axis first, where the data are large: [rows, size] -> [rows, kernel].
std::vector<double> contract_last(const float* x, int64_t rows, int64_t size, const std::vector<KernelReads>& reads) {
  const auto width = static_cast<int64_t>(reads.size());
  std::vector<double> result(static_cast<size_t>(rows * width));
  for (int64_t row = 0; row < rows; ++row) sum_reads(x + row * size, 1, reads, result.data() + row * width, 1);
  return result;
}

/// [outer, size, inner] -> [outer, kernel, inner]
std::vector<double> contract(const std::vector<double>& x, int64_t outer, int64_t size, int64_t inner,
                             const std::vector<KernelReads>& reads) {
  const auto width = static_cast<int64_t>(reads.size());
  std::vector<double> result(static_cast<size_t>(outer * width * inner));
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t i = 0; i < inner; ++i) {
      sum_reads(x.data() + o * size * inner + i, inner, reads, result.data() + o * width * inner + i, inner);
    }
  }
  return result;
}

/// M of one image [channels, spatial...], contiguous.
std::vector<double> kernel_means(const KernelGeometry& geometry, const float* x, at::IntArrayRef shape) {
  const int64_t channels = shape[0];
  double positions = 1;
  for (size_t axis = 0; axis < geometry.spatial(); ++axis) {
    positions *= static_cast<double>(geometry.output_size(axis, shape[axis + 1]));
  }
  std::vector<double> result;
  if (geometry.pointwise()) {
    int64_t size = 1;
    for (int64_t extent : shape.slice(1)) size *= extent;
    for (int64_t c = 0; c < channels; ++c) result.push_back(sum_of(x + c * size, size));
  } else {
    int64_t rows = channels, inner = 1;
    const size_t last = geometry.spatial() - 1;
    for (size_t axis = 0; axis < last; ++axis) rows *= shape[axis + 1];
    result = contract_last(x, rows, shape[last + 1], all_reads(geometry, last, shape[last + 1]));
    inner = geometry.kernel[last];
    for (size_t axis = last; axis-- > 0;) {
      rows /= shape[axis + 1];
      result = contract(result, rows, shape[axis + 1], inner, all_reads(geometry, axis, shape[axis + 1]));
      inner *= geometry.kernel[axis];
    }
  }
  for (double& value : result) value /= positions;
  return result;
}

}  // namespace

std::vector<at::Tensor> KernelMean::summary(const at::Tensor& x) const {
  const auto nothing = [] {
    return std::vector<at::Tensor>{counter_tensor(0, 0, 0), at::empty({0, 0}, c10::kDouble), at::ones({1}, c10::kLong)};
  };
  if (x.numel() == 0 || x.dim() == 0) return nothing();
  at::Tensor dense = x.to(c10::kFloat).contiguous();
  if (geometry_.spatial() == 0) {
    const int64_t items = dense.dim() == 1 ? 1 : dense.size(0);
    const int64_t columns = dense.size(-1), rows = dense.numel() / (items * columns);
    auto sums = at::zeros({items, columns}, c10::kDouble);
    for (int64_t i = 0; i < items; ++i) {
      add_rows(sums.data_ptr<double>() + i * columns, dense.data_ptr<float>() + i * rows * columns, rows, columns);
    }
    return {counter_tensor(1, 0, 0), sums, at::full({1}, rows, c10::kLong)};
  }
  const auto axes = static_cast<int64_t>(geometry_.spatial());
  if (dense.dim() == axes + 1) dense = dense.unsqueeze(0);
  if (dense.dim() != axes + 2) return nothing();
  std::vector<double> means;
  const auto shape = dense.sizes().slice(1);
  for (int64_t i = 0; i < dense.size(0); ++i) {
    const auto item = kernel_means(geometry_, dense.data_ptr<float>() + i * dense.stride(0), shape);
    means.insert(means.end(), item.begin(), item.end());
  }
  return {counter_tensor(1, 0, 0), at::tensor(means, c10::kDouble).view({dense.size(0), -1}),
          at::ones({1}, c10::kLong)};
}

void KernelMean::add_item(const double* sums, int64_t count, int64_t weight) {
  if (!sum_.defined()) sum_ = at::zeros({count}, c10::kDouble);
  if (sum_.numel() != count) {
    throw Error(ErrorCode::kCalibration, "the number of channels changes between samples", "",
                "give samples that fit the model");
  }
  auto* total = sum_.data_ptr<double>();
  for (int64_t i = 0; i < count; ++i) total[i] += sums[i];
  weight_ += weight;
}

void KernelMean::replay(const std::vector<at::Tensor>& summary) {
  const auto& items = summary.at(1);
  const int64_t weight = summary.at(2).data_ptr<int64_t>()[0];
  for (int64_t i = 0; i < items.size(0); ++i) {
    add_item(items.data_ptr<double>() + i * items.size(1), items.size(1), weight);
  }
  batches_ += summary.at(0).data_ptr<int64_t>()[0];
}

void KernelMean::observe(const at::Tensor& x) { replay(summary(x)); }

void KernelMean::merge(const Observer& other) {
  const auto& that = dynamic_cast<const KernelMean&>(other);
  if (that.batches_ == 0) return;
  add_item(that.sum_.data_ptr<double>(), that.sum_.numel(), that.weight_);
  batches_ += that.batches_;
}

Range KernelMean::range() const {
  if (batches_ == 0) throw Error(ErrorCode::kCalibration, "no input means were collected");
  const at::Tensor mean = sum_.div(static_cast<double>(weight_)).to(c10::kFloat);
  return {mean, mean};
}

std::vector<at::Tensor> KernelMean::state() const {
  return {sum_.defined() ? sum_ : at::empty({0}, c10::kDouble), at::tensor({weight_, batches_}, c10::kLong)};
}

void KernelMean::set_state(const std::vector<at::Tensor>& state) {
  const SavedState saved(state, 2);
  const at::Tensor sum = saved.at(0, c10::kDouble, 1), counts = saved.at(1, c10::kLong, 1);
  require_saved(counts.numel() == 2 && are_counts(counts), "the counts of input means are wrong");
  weight_ = counts.data_ptr<int64_t>()[0];
  batches_ = counts.data_ptr<int64_t>()[1];
  require_saved((batches_ == 0) == (sum.numel() == 0) && (batches_ == 0) == (weight_ == 0),
                "input means have a wrong number of values");
  require_saved(at::isfinite(sum).all().item<bool>(), "input means are not finite");
  sum_ = batches_ > 0 ? sum.clone() : at::Tensor();
}

at::Tensor KernelMean::response(const at::Tensor& weight) const {
  const at::Tensor rows = geometry_.rows(weight.to(c10::kFloat)).contiguous();
  const int64_t channels = rows.size(0), reads = rows.size(1), per_group = channels / geometry_.groups;
  if (batches_ == 0 || sum_.numel() != geometry_.groups * reads) {
    throw Error(ErrorCode::kCalibration, "the collected input means do not fit a weight");
  }
  auto result = at::zeros({channels}, c10::kDouble);
  for (int64_t channel = 0; channel < channels; ++channel) {
    const float* row = rows.data_ptr<float>() + channel * reads;
    const double* mean = sum_.data_ptr<double>() + channel / per_group * reads;
    double sum = 0;
    for (int64_t i = 0; i < reads; ++i) sum += row[i] * mean[i];
    result.data_ptr<double>()[channel] = sum / static_cast<double>(weight_);
  }
  return result;
}

}  // namespace tsquant
