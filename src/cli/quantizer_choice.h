#pragma once

#include <memory>

#include "cli/options.h"
#include "tsquant/quantizer.h"

namespace tsquant::cli {

/// The quantizer that `--quantizer` names: `openvino` with all its options, `x86_inductor` and `xnnpack` with the
/// configuration that their function returns by default (xnnpack: `--weights-per-channel true` for one scale per output
/// channel), `fx` with torch.ao's default mapping for x86, or the one in a shared library.
/// @throws Error kInvalidArgument: unknown name, an option that the quantizer does not have, or as load_quantizer
std::unique_ptr<Quantizer> make_quantizer(const QuantizerArgs& args);

}  // namespace tsquant::cli
