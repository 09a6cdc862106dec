#include "run/direct_run.h"
#include "run/tap_runner.h"
#include "tsquant/model.h"

namespace tsquant {

c10::IValue Model::run(const Sample& sample) const {
  if (auto result = run_directly(*this, sample, {})) return *std::move(result);
  return TapRunner(*this, {}).run(sample, {});
}

}  // namespace tsquant
