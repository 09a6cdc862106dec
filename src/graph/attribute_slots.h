#pragma once

#include <ATen/core/class_type.h>
#include <torch/csrc/jit/api/module.h>

#include <string>

namespace tsquant {

/// The slot of an attribute of this name; nullopt when the class has none. LibTorch compares the name with all of them,
/// and a trace of nn.Sequential has thousands: what was found is remembered.
c10::optional<size_t> find_attribute_slot(const c10::ClassType& type, const std::string& name);

/// Takes an attribute away from a module and from its class, which no other object may have.
void remove_attribute(torch::jit::Module& module, const std::string& name);

}  // namespace tsquant
