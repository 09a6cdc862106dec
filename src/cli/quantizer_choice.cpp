#include "cli/quantizer_choice.h"

#include <fmt/format.h>

#include <set>

#include "tsquant/error.h"
#include "tsquant/load_quantizer.h"
#include "tsquant/x86_inductor_quantizer.h"
#include "tsquant/xnnpack_quantizer.h"

namespace tsquant::cli {

namespace {

/// The other quantizers have few of the options of OpenVINOQuantizer.
void refuse_others(const QuantizerArgs& args, const std::set<std::string>& allowed) {
  for (const auto& option : args.given ? args.given() : std::vector<std::string>{}) {
    if (option == "--quantizer" || option == "--skip-pass" || allowed.count(option)) continue;
    throw Error(ErrorCode::kInvalidArgument, fmt::format("--quantizer {} does not have this option", args.quantizer),
                option, "leave it out, or use --quantizer openvino");
  }
}

bool is_library(const std::string& text) {
  return text.find('/') != std::string::npos || text.find(".so") != std::string::npos;
}

}  // namespace

std::unique_ptr<Quantizer> make_quantizer(const QuantizerArgs& args) {
  if (args.quantizer == "openvino") return std::make_unique<OpenVINOQuantizer>(quantizer_options(args));
  if (args.quantizer == "x86_inductor") {
    refuse_others(args, {});
    auto quantizer = std::make_unique<X86InductorQuantizer>();
    quantizer->set_global(get_default_x86_inductor_quantization_config());
    return quantizer;
  }
  if (args.quantizer == "xnnpack") {
    refuse_others(args, {"--weights-per-channel"});
    auto quantizer = std::make_unique<XNNPACKQuantizer>();
    quantizer->set_global(get_symmetric_quantization_config(args.weights.per_channel.value_or(false)));
    return quantizer;
  }
  if (!is_library(args.quantizer)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("there is no quantizer \"{}\"", args.quantizer), "--quantizer",
                "use openvino, x86_inductor, xnnpack, or the path of a shared library");
  }
  refuse_others(args, {});
  return load_quantizer(args.quantizer);
}

}  // namespace tsquant::cli
