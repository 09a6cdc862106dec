#include "io/module_check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdint>
#include <unordered_set>

namespace tsquant {

namespace {

/// Throws c10::Error when an index lies outside of the tensor.
void check_sparse_indices(const at::Tensor& tensor) {
  if (tensor.is_sparse()) {
    at::_validate_sparse_coo_tensor_args(tensor._indices(), tensor._values(), tensor.sizes());
  } else if (tensor.layout() == at::kSparseCsr) {
    at::_validate_sparse_csr_tensor_args(tensor.crow_indices(), tensor.col_indices(), tensor.values(), tensor.sizes());
  }
}

bool tensor_fits(const c10::IValue& value) {
  if (!value.isTensor() || !value.toTensor().defined()) return value.isTensor();
  try {
    check_sparse_indices(value.toTensor());
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

/// LibTorch checks the zero points of one scale per tensor when it makes the tensor, those of one per channel only when
/// an operator reads it.
bool zero_points_fit(const c10::IValue& value) {
  if (!value.isTensor() || !value.toTensor().defined() || !value.toTensor().is_quantized()) return true;
  const at::Tensor& tensor = value.toTensor();
  if (tensor.qscheme() != at::kPerChannelAffine || tensor.numel() == 0) return true;
  const at::Tensor zero_points = tensor.q_per_channel_zero_points();
  const bool is_signed = tensor.scalar_type() == at::kQInt8, wide = tensor.scalar_type() == at::kQInt32;
  const int64_t low = wide ? INT32_MIN : is_signed ? INT8_MIN : 0;
  const int64_t high = wide ? INT32_MAX : is_signed ? INT8_MAX : UINT8_MAX;
  return (zero_points.ge(low) & zero_points.le(high)).all().item<bool>();
}

/// Objects are looked at by the caller: they may stand in many places.
bool value_fits(const c10::IValue& value, const c10::TypePtr& type);

bool all_fit(const c10::IValue& list, const c10::TypePtr& type) {
  for (const c10::IValue& element : list.toListRef()) {
    if (!value_fits(element, type)) return false;
  }
  return true;
}

bool list_fits(const c10::IValue& value, const c10::TypePtr& element) {
  if (!value.isList()) return false;
  // Lists of numbers are long.
  const auto held = value.toList().elementType();
  const bool numbers = held->kind() == c10::TypeKind::IntType || held->kind() == c10::TypeKind::FloatType ||
                       held->kind() == c10::TypeKind::BoolType;
  return (numbers && held->kind() != element->kind()) ? false : all_fit(value, element);
}

bool tuple_fits(const c10::IValue& value, const c10::TypePtr& type) {
  if (!value.isTuple()) return false;
  const auto& elements = value.toTupleRef().elements();
  const auto types = type->containedTypes();
  if (elements.size() != types.size()) return false;
  for (size_t i = 0; i < types.size(); ++i) {
    if (!value_fits(elements[i], types[i])) return false;
  }
  return true;
}

bool dict_fits(const c10::IValue& value, const c10::TypePtr& type) {
  if (!value.isGenericDict()) return false;
  for (const auto& entry : value.toGenericDict()) {
    if (!value_fits(entry.key(), type->containedType(0)) || !value_fits(entry.value(), type->containedType(1))) {
      return false;
    }
  }
  return true;
}

bool value_fits(const c10::IValue& value, const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      return tensor_fits(value);
    case c10::TypeKind::IntType:
      return value.isInt();
    case c10::TypeKind::FloatType:
      return value.isDouble();
    case c10::TypeKind::ComplexType:
      return value.isComplexDouble();
    case c10::TypeKind::BoolType:
      return value.isBool();
    case c10::TypeKind::StringType:
      return value.isString();
    case c10::TypeKind::NoneType:
      return value.isNone();
    case c10::TypeKind::DeviceObjType:
      return value.isDevice();
    case c10::TypeKind::EnumType:
      return value.isEnum();
    case c10::TypeKind::OptionalType:
      return value.isNone() || value_fits(value, type->containedType(0));
    case c10::TypeKind::ListType:
      return list_fits(value, type->containedType(0));
    case c10::TypeKind::TupleType:
      return tuple_fits(value, type);
    case c10::TypeKind::DictType:
      return dict_fits(value, type);
    case c10::TypeKind::ClassType:
    case c10::TypeKind::InterfaceType:
      return value.isObject() && value.type()->isSubtypeOf(*type);
    default:
      return true;
  }
}

class ModuleCheck {
 public:
  std::string fault(const c10::intrusive_ptr<c10::ivalue::Object>& object, const std::string& path) {
    if (!seen_.insert(object.get()).second) return "";
    const auto type = object->type();
    for (size_t i = 0; i < type->numAttributes(); ++i) {
      const std::string name = path.empty() ? type->getAttributeName(i) : path + "." + type->getAttributeName(i);
      const c10::IValue& value = object->getSlot(i);
      if (!value_fits(value, type->getAttribute(i))) return fmt::format("{} has a value of another type", name);
      if (!zero_points_fit(value)) return fmt::format("{} has zero points that are no codes", name);
      if (!value.isObject()) continue;
      const std::string inner = fault(value.toObject(), name);
      if (!inner.empty()) return inner;
    }
    return "";
  }

 private:
  std::unordered_set<const void*> seen_;
};

}  // namespace

std::string module_fault(const torch::jit::Module& module) { return ModuleCheck().fault(module._ivalue(), ""); }

}  // namespace tsquant
