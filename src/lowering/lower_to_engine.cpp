#include "lowering/backends/lowering_state.h"
#include "lowering/lowering.h"
#include "tsquant/backend.h"

namespace tsquant {

void lower_to_engine(Model& model, const std::string& engine, Report& report) {
  { const EngineGuard available(engine); }
  Lowering lowering(model, engine, report);
  fold_channel_scales(lowering);
  make_activations_unsigned(lowering);
  sink_dequantize(lowering);
  lowering.remove_dead_code();
  if (lowering.own_kernels()) fuse_conv_add(lowering);
  lower_convolutions_and_linear(lowering);
  lower_additions_and_products(lowering);
  lower_concatenations(lowering);
  lower_pooling(lowering);
  lower_unary(lowering);
  lower_quantizers(lowering);
  lowering.remove_dead_code();
  lowering.record_refusals();
}

}  // namespace tsquant
