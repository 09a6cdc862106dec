#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <fmt/format.h>
#include <torch/script.h>

#include <algorithm>

#include "io/archive_info.h"
#include "io/torch_archive.h"
#include "lowering/engines/lowering_context.h"
#include "tsquant/engine.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

const std::vector<std::pair<std::string, at::QEngine>>& known_engines() {
  static const std::vector<std::pair<std::string, at::QEngine>> engines = {
      {"fbgemm", at::QEngine::FBGEMM}, {"onednn", at::QEngine::ONEDNN}, {"qnnpack", at::QEngine::QNNPACK}};
  return engines;
}

bool is_built_in(at::QEngine engine) {
  const auto& supported = at::globalContext().supportedQEngines();
  return std::find(supported.begin(), supported.end(), engine) != supported.end();
}

/// Whether the engine adds products of bytes exactly on this processor: the largest codes tell. Without VNNI, oneDNN's
/// and FBGEMM's kernels add pairs of products in 16 bits.
bool adds_exactly(at::QEngine engine) {
  constexpr int64_t kInputs = 64, kOutputs = 16;
  constexpr double kSum = 255.0 * 127.0 * kInputs;
  const at::QEngine previous = at::globalContext().qEngine();
  at::globalContext().setQEngine(engine);
  bool exact = false;
  try {
    const at::Tensor x = at::quantize_per_tensor(at::full({4, kInputs}, 255.0f), 1.0, 0, at::kQUInt8);
    const at::Tensor w = at::quantize_per_tensor(at::full({kOutputs, kInputs}, 127.0f), 1.0, 0, at::kQInt8);
    const auto packed = call_operator("quantized::linear_prepack", {w, c10::IValue()});
    const at::Tensor y = call_operator("quantized::linear", {x, packed, kSum / 127, 0}).toTensor();
    exact = (y.int_repr().to(at::kInt) - 127).abs().max().item<int>() <= 1;
  } catch (const std::exception&) {
    exact = false;
  }
  at::globalContext().setQEngine(previous);
  return exact;
}

/// Engines of this build that compute right on this processor.
const std::vector<std::string>& exact_engines() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found;
    for (const auto& [name, engine] : known_engines()) {
      if (is_built_in(engine) && adds_exactly(engine)) found.push_back(name);
    }
    return found;
  }();
  return names;
}

bool is_supported(const std::string& engine) {
  return std::count(exact_engines().begin(), exact_engines().end(), engine) > 0;
}

}  // namespace

std::vector<std::string> available_engines() {
  std::vector<std::string> names = {"tsquant"};
  names.insert(names.end(), exact_engines().begin(), exact_engines().end());
  return names;
}

std::string default_engine() { return "tsquant"; }

EngineGuard::EngineGuard(const std::string& engine) : previous_(static_cast<int>(at::globalContext().qEngine())) {
  if (engine == "tsquant") return;  // its operators do not look at LibTorch's engine
  for (const auto& [name, value] : known_engines()) {
    if (name != engine || !is_built_in(value)) continue;
    if (!is_supported(name)) {
      throw Error(
          ErrorCode::kBackendUnavailable,
          fmt::format("the products of bytes of the quantized engine \"{}\" saturate on this processor", engine),
          "engine", fmt::format("use {}", fmt::join(available_engines(), " or ")));
    }
    at::globalContext().setQEngine(value);
    return;
  }
  throw Error(ErrorCode::kBackendUnavailable, fmt::format("the quantized engine \"{}\" is not available", engine), "",
              fmt::format("this build has {}", fmt::join(available_engines(), ", ")));
}

EngineGuard::~EngineGuard() { at::globalContext().setQEngine(static_cast<at::QEngine>(previous_)); }

torch::jit::Module load_quantized(const std::string& path) {
  const std::string engine = read_extra_file(path, "tsquant_engine");
  if (!engine.empty()) {
    const EngineGuard check(engine);  // throws when this build does not have it
  }
  for (const auto& [name, value] : known_engines()) {
    if (name == engine) at::globalContext().setQEngine(value);
  }
  return TorchArchive(path, model_archive()).load_module();
}

}  // namespace tsquant
