#include "fx_modules.h"

namespace tsquant::testing {

using torch::jit::Module;

Module of_class(const std::string& type, const std::string& source, const Named& params, const Children& children) {
  Module module("__torch__." + type);
  module.register_attribute("training", c10::BoolType::get(), false);
  for (const auto& [name, tensor] : params) module.register_parameter(name, tensor, false);
  for (const auto& [name, child] : children) module.register_module(name, child);
  module.define(source);
  return module;
}

Module linear_layer(int64_t in, int64_t out) {
  return of_class("torch.nn.modules.linear.Linear", R"(
def forward(self, x):
    return torch.linear(x, self.weight, self.bias)
)",
                  {{"weight", at::ones({out, in})}, {"bias", at::ones({out})}});
}

Module conv1d_layer(int64_t in, int64_t out) {
  return of_class("torch.nn.modules.conv.Conv1d", R"(
def forward(self, x):
    return torch.conv1d(x, self.weight, self.bias)
)",
                  {{"weight", at::ones({out, in, 1})}, {"bias", at::ones({out})}});
}

Module conv2d_layer(int64_t in, int64_t out) {
  return of_class("torch.nn.modules.conv.Conv2d", R"(
def forward(self, x):
    return torch.conv2d(x, self.weight, self.bias)
)",
                  {{"weight", at::ones({out, in, 1, 1})}, {"bias", at::ones({out})}});
}

Module relu_layer() {
  return of_class("torch.nn.modules.activation.ReLU", R"(
def forward(self, x):
    return torch.relu(x)
)");
}

}  // namespace tsquant::testing
