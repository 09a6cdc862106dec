#include "compression/row_panels.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "run/sample_scheduler.h"

namespace tsquant {

namespace {

constexpr int64_t kProductRows = 256;

}  // namespace

void for_each_panel(int64_t count, const std::function<void(int64_t panel)>& work) {
  run_samples(
      count, /*independent=*/true, [&](int64_t panel, Turn&) { work(panel); }, [](int64_t) {});
}

at::Tensor panel_product(const at::Tensor& a, const at::Tensor& b) {
  const auto result = at::empty({a.size(0), b.size(1)}, at::kDouble);
  for_each_panel(panels_of(a.size(0), kProductRows), [&](int64_t panel) {
    const int64_t first = panel * kProductRows, rows = std::min(kProductRows, a.size(0) - first);
    result.narrow(0, first, rows).copy_(at::mm(a.narrow(0, first, rows), b));
  });
  return result;
}

}  // namespace tsquant
