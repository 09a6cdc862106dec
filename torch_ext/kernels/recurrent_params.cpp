#include "kernels/recurrent_params.h"

#include <torch/library.h>

namespace tsquant::kernels {
namespace {

using Lstm = c10::intrusive_ptr<LstmParams>;
using Gru = c10::intrusive_ptr<GruParams>;

template <class Params>
c10::intrusive_ptr<Params> recurrent_pack(std::vector<at::Tensor> weights, int64_t layers, bool bidirectional,
                                          bool batch_first) {
  const std::vector<int64_t> config{layers, bidirectional ? 1 : 0, batch_first ? 1 : 0};
  return c10::make_intrusive<Params>(typename Params::State(std::move(weights), config));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm(at::Tensor x, std::vector<at::Tensor> states, Lstm params) {
  auto result = params->layers().run(x, states);
  return {result.output, result.hidden, result.cell};
}

std::tuple<at::Tensor, at::Tensor> gru(at::Tensor x, at::Tensor state, Gru params) {
  auto result = params->layers().run(x, {state});
  return {result.output, result.hidden};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_packed(at::Tensor data, at::Tensor batch_sizes,
                                                           std::vector<at::Tensor> states, Lstm params) {
  auto result = params->layers().run_packed(data, batch_sizes, states);
  return {result.output, result.hidden, result.cell};
}

std::tuple<at::Tensor, at::Tensor> gru_packed(at::Tensor data, at::Tensor batch_sizes, at::Tensor state, Gru params) {
  auto result = params->layers().run_packed(data, batch_sizes, {state});
  return {result.output, result.hidden};
}

std::tuple<at::Tensor, at::Tensor> lstm_cell(at::Tensor x, std::vector<at::Tensor> states, Lstm params) {
  auto result = params->layers().step(x, states);
  return {result.hidden, result.cell};
}

at::Tensor gru_cell(at::Tensor x, at::Tensor state, Gru params) { return params->layers().step(x, {state}).hidden; }

template <class Params>
void register_params(torch::Library& m, const char* name) {
  using Pointer = c10::intrusive_ptr<Params>;
  m.class_<Params>(name)
      .def("__str__", [](const Pointer& self) { return self->layers().description(); })
      .def_pickle([](const Pointer& self) { return self->layers().state(); },
                  [](typename Params::State state) { return c10::make_intrusive<Params>(std::move(state)); });
}

}  // namespace

// Schemas are the contract with model files: change them only by adding overloads.
TORCH_LIBRARY_FRAGMENT(tsquant, m) {
  register_params<LstmParams>(m, "LstmParams");
  register_params<GruParams>(m, "GruParams");
  m.def(
      "lstm_pack(Tensor[] weights, int layers, bool bidirectional, bool batch_first) -> "
      "__torch__.torch.classes.tsquant.LstmParams",
      recurrent_pack<LstmParams>);
  m.def(
      "lstm(Tensor x, Tensor[] states, __torch__.torch.classes.tsquant.LstmParams params) -> (Tensor, Tensor, Tensor)",
      lstm);
  m.def(
      "gru_pack(Tensor[] weights, int layers, bool bidirectional, bool batch_first) -> "
      "__torch__.torch.classes.tsquant.GruParams",
      recurrent_pack<GruParams>);
  m.def("gru(Tensor x, Tensor state, __torch__.torch.classes.tsquant.GruParams params) -> (Tensor, Tensor)", gru);
  m.def(
      "lstm.packed(Tensor data, Tensor batch_sizes, Tensor[] states, __torch__.torch.classes.tsquant.LstmParams "
      "params) "
      "-> (Tensor, Tensor, Tensor)",
      lstm_packed);
  m.def(
      "gru.packed(Tensor data, Tensor batch_sizes, Tensor state, __torch__.torch.classes.tsquant.GruParams params) -> "
      "(Tensor, Tensor)",
      gru_packed);
  m.def("lstm_cell(Tensor x, Tensor[] states, __torch__.torch.classes.tsquant.LstmParams params) -> (Tensor, Tensor)",
        lstm_cell);
  m.def("gru_cell(Tensor x, Tensor state, __torch__.torch.classes.tsquant.GruParams params) -> Tensor", gru_cell);
}

}  // namespace tsquant::kernels
