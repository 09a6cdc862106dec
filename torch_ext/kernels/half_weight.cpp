#include "kernels/half_weight.h"

#include <torch/library.h>

#include <sstream>

namespace tsquant::kernels {

HalfWeight::HalfWeight(const at::Tensor& values) : values_(values) {
  TORCH_CHECK(values.defined() && values.scalar_type() == at::kHalf && values.layout() == at::kStrided,
              "tsquant: a weight in float16 must be a float16 tensor, but is ", values.toString());
}

at::Tensor HalfWeight::floats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (values_.scalar_type() != at::kFloat) values_ = values_.to(at::kFloat);
  return values_;
}

at::Tensor HalfWeight::halves() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return values_.to(at::kHalf);
}

std::string HalfWeight::description() const {
  std::ostringstream out;
  const std::lock_guard<std::mutex> lock(mutex_);
  out << "HalfWeight(size=" << values_.sizes() << ")";
  return out.str();
}

namespace {

using Half = c10::intrusive_ptr<HalfWeight>;

Half half_pack(at::Tensor weight) { return c10::make_intrusive<HalfWeight>(weight); }
at::Tensor half_floats(Half weight) { return weight->floats(); }

}  // namespace

// Schemas are the contract with model files: change them only by adding overloads.
TORCH_LIBRARY_FRAGMENT(tsquant, m) {
  m.class_<HalfWeight>("HalfWeight")
      .def("__str__", [](const Half& self) { return self->description(); })
      .def_pickle([](const Half& self) { return self->halves(); },
                  [](at::Tensor state) { return c10::make_intrusive<HalfWeight>(state); });
  m.def("half_pack(Tensor weight) -> __torch__.torch.classes.tsquant.HalfWeight", half_pack);
  m.def("half_floats(__torch__.torch.classes.tsquant.HalfWeight weight) -> Tensor", half_floats);
}

}  // namespace tsquant::kernels
