#include "compression/row_panels.h"

#include "run/sample_scheduler.h"

namespace tsquant {

void for_each_panel(int64_t count, const std::function<void(int64_t panel)>& work) {
  run_samples(
      count, /*independent=*/true, [&](int64_t panel, Turn&) { work(panel); }, [](int64_t) {});
}

}  // namespace tsquant
