#include "lowering/engines/engine_check.h"

#include <fmt/format.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/frontend/sugared_value.h>

namespace tsquant {

namespace {

// TorchScript has no operator that names the selected engine, so two small results tell:
//  - QNNPACK's average pooling divides by the whole window, padding included, whatever count_include_pad says;
//  - products of bytes that are added in 16 bits saturate (oneDNN and FBGEMM on processors without VNNI).
const char* const kSource = R"(
def __getstate__(self):
    return self.training

def __setstate__(self, training: bool) -> None:
    self.training = training
    ones = torch.quantize_per_tensor(torch.ones([1, 1, 2, 2]), 0.01, 0, 13)
    corner = torch.avg_pool2d(ones, [2, 2], [2, 2], [1, 1], False, False).dequantize()[0, 0, 0, 0].item()
    counts_padding = float(corner) < 0.5
    assert counts_padding == {0}, "this file was quantized for LibTorch's engine {1}, which is not selected: before loading, set torch.backends.quantized.engine = '{1}' in Python, or use tsquant::load_quantized in C++; files for the engine tsquant need no selection"
    x = torch.quantize_per_tensor(torch.full([4, 64], 255.0), 1.0, 0, 13)
    w = torch.quantize_per_tensor(torch.full([64, 64], 127.0), 1.0, 0, 12)
    y = quantized.linear(x, quantized.linear_prepack(w, None), 16320.0, 0).dequantize()
    assert float((y - 127.0 * 16320.0).abs().max().item()) < 16320.0 * 1.5, "this file was quantized for LibTorch's engine {1}, whose products of bytes saturate on this processor: quantize the model for the engine tsquant"
)";

/// Source code compiled in C++ knows torch alone.
struct QuantizedOperators : torch::jit::NativeResolver {
  std::shared_ptr<torch::jit::SugaredValue> resolveValue(const std::string& name, torch::jit::GraphFunction& function,
                                                         const torch::jit::SourceRange& place) override {
    if (name == "quantized") return std::make_shared<torch::jit::BuiltinModule>("quantized");
    return NativeResolver::resolveValue(name, function, place);
  }
};

}  // namespace

void add_engine_check(Model& model, const Engine& engine) {
  const EngineRow* pooling = engine.find("avg_pool2d");
  const bool counts_padding = pooling != nullptr && !pooling->count_without_padding;
  auto& module = model.module();
  torch::jit::Module check("__torch__.tsquant_engine_check", module._ivalue()->compilation_unit(),
                           /*shouldMangle=*/true);
  check.register_attribute("training", c10::BoolType::get(), false);
  check.define(fmt::format(kSource, counts_padding ? "True" : "False", engine.name),
               std::make_shared<QuantizedOperators>());
  std::string name = "tsquant_engine_check";
  while (module.hasattr(name)) name += "_";
  module.register_module(name, check);
}

}  // namespace tsquant
