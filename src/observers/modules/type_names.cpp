#include "observers/modules/type_names.h"

#include <array>

namespace tsquant {

namespace {

constexpr std::array<const char*, 11> kObserverNames{"MinMaxObserver",
                                                     "PerChannelMinMaxObserver",
                                                     "MovingAverageMinMaxObserver",
                                                     "MovingAveragePerChannelMinMaxObserver",
                                                     "HistogramObserver",
                                                     "PlaceholderObserver",
                                                     "FixedQParamsObserver",
                                                     "RecordingObserver",
                                                     "NoopObserver",
                                                     "ReuseInputObserver",
                                                     "SampleExtremaObserver"};

constexpr std::array<const char*, 5> kFakeQuantizeNames{"", "FakeQuantize", "FusedMovingAvgObsFakeQuantize",
                                                        "FixedQParamsFakeQuantize", "_LearnableFakeQuantize"};

std::string last_name(const torch::jit::Module& module) {
  const auto name = module.type()->name();
  return name ? name->name() : "";
}

/// The statistics that an observer of this type works with.
bool holds_statistics(const torch::jit::Module& module, ObserverType type) {
  const auto all = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (!module.hasattr(name) || !module.attr(name).isTensor()) return false;
    }
    return true;
  };
  switch (type) {
    case ObserverType::kHistogram:
      return all({"histogram", "min_val", "max_val"});
    case ObserverType::kFixedQParams:
      return all({"scale", "zero_point"});
    case ObserverType::kSampleExtrema:
      return all({"sample_min", "sample_max", "unusable"});
    case ObserverType::kMinMax:
    case ObserverType::kPerChannelMinMax:
    case ObserverType::kMovingAverageMinMax:
    case ObserverType::kMovingAveragePerChannelMinMax:
      return all({"min_val", "max_val"});
    default:
      return true;
  }
}

}  // namespace

const char* class_name(ObserverType type) { return kObserverNames.at(static_cast<size_t>(type)); }
const char* class_name(FakeQuantizeType type) { return kFakeQuantizeNames.at(static_cast<size_t>(type)); }

c10::optional<ObserverType> observer_type(const torch::jit::Module& module) {
  const auto name = last_name(module);
  for (size_t i = 0; i < kObserverNames.size(); ++i) {
    const auto type = static_cast<ObserverType>(i);
    if (name == kObserverNames.at(i) && module.hasattr("dtype") && holds_statistics(module, type)) return type;
  }
  return c10::nullopt;
}

FakeQuantizeType fake_quantize_type(const torch::jit::Module& module) {
  const auto name = last_name(module);
  for (size_t i = 1; i < kFakeQuantizeNames.size(); ++i) {
    if (name == kFakeQuantizeNames.at(i) && module.hasattr("activation_post_process")) {
      return static_cast<FakeQuantizeType>(i);
    }
  }
  return FakeQuantizeType::kNone;
}

torch::jit::Module inner_observer(const torch::jit::Module& module) {
  if (fake_quantize_type(module) == FakeQuantizeType::kNone) return module;
  return module.attr("activation_post_process").toModule();
}

}  // namespace tsquant
