#include <ATen/Context.h>
#include <fmt/format.h>
#include <torch/script.h>

#include <algorithm>

#include "io/archive_info.h"
#include "tsquant/backend.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

const std::vector<std::pair<std::string, at::QEngine>>& known_engines() {
  static const std::vector<std::pair<std::string, at::QEngine>> engines = {
      {"fbgemm", at::QEngine::FBGEMM}, {"onednn", at::QEngine::ONEDNN}, {"qnnpack", at::QEngine::QNNPACK}};
  return engines;
}

bool is_supported(at::QEngine engine) {
  const auto& supported = at::globalContext().supportedQEngines();
  return std::find(supported.begin(), supported.end(), engine) != supported.end();
}

}  // namespace

std::vector<std::string> available_engines() {
  std::vector<std::string> names = {"tsquant"};
  for (const auto& [name, engine] : known_engines()) {
    if (is_supported(engine)) names.push_back(name);
  }
  return names;
}

std::string default_engine() { return "tsquant"; }

EngineGuard::EngineGuard(const std::string& engine) : previous_(static_cast<int>(at::globalContext().qEngine())) {
  if (engine == "tsquant") return;  // its operators do not look at LibTorch's engine
  for (const auto& [name, value] : known_engines()) {
    if (name == engine && is_supported(value)) {
      at::globalContext().setQEngine(value);
      return;
    }
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
  try {
    return torch::jit::load(path, at::kCPU);
  } catch (const std::exception& e) {
    throw Error(ErrorCode::kModelLoad, fmt::format("cannot load the quantized model: {}", e.what()), path);
  }
}

}  // namespace tsquant
