#include "observers/modules/module_class.h"

#include <ATen/core/List.h>

namespace tsquant {

void Attributes::add_tensor_list(const std::string& name) {
  add(name, c10::ListType::ofTensors(), c10::List<at::Tensor>(), Kind::kValue);
}

bool Attributes::are_those_of(const c10::ClassType& type) const {
  if (type.numAttributes() != attributes_.size()) return false;
  for (const auto& attribute : attributes_) {
    const auto slot = type.findAttributeSlot(attribute.name);
    if (!slot || *type.getAttribute(*slot) != *attribute.type ||
        type.is_parameter(*slot) != (attribute.kind == Kind::kParameter)) {
      return false;
    }
  }
  return true;
}

torch::jit::Module Attributes::instance(const std::string& name, const std::string& source,
                                        const std::shared_ptr<torch::jit::CompilationUnit>& unit) const {
  const auto known = unit->get_class(c10::QualifiedName(name));
  const bool is_known = known && are_those_of(*known);
  torch::jit::Module module =
      is_known ? torch::jit::Module(unit, known) : torch::jit::Module(name, unit, /*shouldMangle=*/true);
  for (const auto& attribute : attributes_) {
    const bool is_parameter = attribute.kind == Kind::kParameter, is_buffer = attribute.kind == Kind::kBuffer;
    if (!is_known) module.type()->addAttribute(attribute.name, attribute.type, is_parameter, is_buffer);
    module._ivalue()->setAttr(attribute.name, attribute.value);
  }
  if (!is_known) module.define(source);
  return module;
}

}  // namespace tsquant
