#include "compression/code_panels.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "compression/damped_factor.h"
#include "compression/row_panels.h"
#include "numerics/formats.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Enough columns of a product for full speed, and few enough that a panel of a long row stays in the cache.
constexpr int64_t kPanelOutputs = 128;

/// What steps change.
constexpr at::Tensor CodePanel::*kChanged[] = {&CodePanel::codes, &CodePanel::levels, &CodePanel::scales,
                                               &CodePanel::zero_points, &CodePanel::products};

int64_t checked_group_size(const at::Tensor& weight, const CompressedWeight& start, const std::string& algorithm) {
  const QParams& q = start.qparams;
  const auto refuse = [&](const std::string& message, const std::string& advice) {
    throw Error(ErrorCode::kInvalidArgument, message, algorithm, advice);
  };
  if (weight.dim() != 2 || !weight.is_floating_point() || weight.numel() == 0 ||
      start.codes.sizes() != weight.sizes()) {
    refuse(fmt::format("a weight of shape [{}] with codes of shape [{}]", fmt::join(weight.sizes(), ", "),
                       fmt::join(start.codes.sizes(), ", ")),
           "give the floating-point matrix of a linear layer and its codes");
  }
  const bool by_group = q.group_size > 0 && (q.group_axis == 1 || q.group_axis == -1);
  const bool by_output = q.group_size == 0 && q.per_channel && q.axis == 0;
  if (!by_group && !by_output) {
    refuse("the scales of a weight are neither those of groups of inputs nor of outputs",
           "transpose the weight, or set group_size or per_channel");
  }
  const int64_t size = by_group ? q.group_size : weight.size(1);
  if (weight.size(1) % size != 0 || q.scale.numel() != weight.numel() / size ||
      q.zero_point.numel() != q.scale.numel()) {
    refuse(fmt::format("{} scales and {} zero points for a weight of shape [{}] in groups of {}", q.scale.numel(),
                       q.zero_point.numel(), fmt::join(weight.sizes(), ", "), size),
           "give the parameters of this weight");
  }
  return size;
}

at::Tensor transposed(const at::Tensor& x, int64_t first, int64_t rows) {
  return x.narrow(0, first, rows).t().contiguous();
}

}  // namespace

at::Tensor CodePanel::by_input(const at::Tensor& of_groups) const {
  return of_groups.unsqueeze(1).expand({groups(), group_size, rows}).reshape({inputs(), rows});
}

void CodePanel::measure(const at::Tensor& hessian) { products = at::mm(hessian, weight - values()); }

at::Tensor CodePanel::errors() const {
  const auto difference = (weight - values()).contiguous();
  const auto result = at::zeros({rows}, at::kDouble);
  auto* sums = result.data_ptr<double>();
  const float *d = difference.data_ptr<float>(), *p = products.data_ptr<float>();
  for (int64_t i = 0; i < inputs(); ++i) {
    for (int64_t r = 0; r < rows; ++r) sums[r] += static_cast<double>(d[i * rows + r]) * p[i * rows + r];
  }
  return result;
}

CodePanel CodePanel::copy() const {
  CodePanel result = *this;
  for (const auto member : kChanged) result.*member = (this->*member).clone();
  return result;
}

StepErrors keep_better_rows(CodePanel& panel, const CodePanel& before, const at::Tensor& errors_before) {
  const auto errors = panel.errors();
  const auto kept = at::logical_not(errors < errors_before);
  StepErrors result;
  result.rows_kept = kept.sum().item<int64_t>();
  if (result.rows_kept > 0) {
    for (const auto member : kChanged) panel.*member = at::where(kept, before.*member, panel.*member);
  }
  result.before = errors_before.sum().item<double>();
  result.after = at::where(kept, errors_before, errors).sum().item<double>();
  return result;
}

CodePanels::CodePanels(const at::Tensor& weight, const CompressedWeight& start, const std::string& algorithm)
    : weight_(weight.detach().to(at::kFloat)),
      start_(start),
      codec_(start.qparams),
      group_size_(checked_group_size(weight, start, algorithm)) {
  const std::vector<int64_t> by_group{weight_.size(0), weight_.size(1) / group_size_};
  codes_ = start.codes.contiguous().view(at::kByte).clone();
  scales_ = whole_scales(start.qparams).reshape(by_group);
  zero_points_ = start.qparams.zero_point.reshape(by_group).clone();
}

int64_t CodePanels::size() const { return panels_of(weight_.size(0), kPanelOutputs); }

CodePanel CodePanels::panel(int64_t index) const {
  CodePanel panel;
  panel.index = index;
  panel.first = index * kPanelOutputs;
  panel.rows = std::min(kPanelOutputs, weight_.size(0) - panel.first);
  panel.group_size = group_size_;
  panel.weight = transposed(weight_, panel.first, panel.rows);
  panel.codes = transposed(codes_, panel.first, panel.rows);
  panel.scales = transposed(scales_, panel.first, panel.rows);
  panel.zero_points = transposed(zero_points_, panel.first, panel.rows);
  CodeOptions options;
  options.is_signed = start_.qparams.dtype == c10::kChar;
  options.codebook = start_.qparams.codebook;
  const auto codes = panel.codes.view(start_.qparams.dtype);
  panel.levels = decode(codes, start_.qparams.format, options) - panel.by_input(panel.zero_points).to(at::kFloat);
  return panel;
}

void CodePanels::store(const CodePanel& panel) {
  codes_.narrow(0, panel.first, panel.rows).copy_(panel.codes.t());
  scales_.narrow(0, panel.first, panel.rows).copy_(panel.scales.t());
  zero_points_.narrow(0, panel.first, panel.rows).copy_(panel.zero_points.t());
}

void CodePanels::for_each(const std::function<void(CodePanel&)>& work) {
  for_each_panel(size(), [&](int64_t index) {
    auto current = panel(index);
    work(current);
    store(current);
  });
}

StepErrors CodePanels::for_each_step(const std::function<StepErrors(CodePanel&)>& work) {
  std::vector<StepErrors> parts(static_cast<size_t>(size()));
  for_each([&](CodePanel& current) { parts[current.index] = work(current); });
  StepErrors sum;
  for (const StepErrors& part : parts) {
    sum.before += part.before;
    sum.after += part.after;
    sum.rows_kept += part.rows_kept;
  }
  return sum;
}

CompressedWeight CodePanels::result() const {
  CompressedWeight result = start_;
  result.codes = codes_.view(start_.codes.scalar_type());
  set_whole_scales(result.qparams, scales_.reshape(start_.qparams.scale.sizes()));
  result.qparams.zero_point = zero_points_.reshape(start_.qparams.zero_point.sizes());
  return result;
}

CompressedWeight improve_panels(const at::Tensor& weight, const CompressedWeight& start, const at::Tensor& hessian,
                                const std::string& algorithm, StepErrors* errors,
                                const std::function<StepErrors(CodePanel& panel, const GroupCodec& codec)>& step) {
  CodePanels panels(weight, start, algorithm);
  check_hessian(hessian, panels.inputs());
  const StepErrors sum = panels.for_each_step([&](CodePanel& panel) {
    panel.measure(hessian);
    return step(panel, panels.codec());
  });
  if (errors) *errors = sum;
  return panels.result();
}

}  // namespace tsquant
