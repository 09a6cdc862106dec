#include "run/tap_runner.h"
#include "tsquant/model.h"

namespace tsquant {

c10::IValue Model::run(const Sample& sample) const { return TapRunner(*this, {}).run(sample, {}); }

}  // namespace tsquant
