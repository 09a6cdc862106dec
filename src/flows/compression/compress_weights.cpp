#include "tsquant/compress_weights.h"

#include "flows/compression/check_compression.h"
#include "flows/compression/rank_group.h"
#include "options/common_fields.h"
#include "options/tables.h"
#include "quantizers/openvino/compression_modes.h"

namespace tsquant {

CompressedModel compress_weights(Model& model, const CompressWeightsOptions& options) {
  std::vector<std::string> warnings;
  // The other ranks hear of it.
  RankGroup(options.exchange).run([&] { warnings = check_compress_weights(options); });
  OpenVINOQuantizerOptions placement;
  placement.weights_only = weights_only_options(options);
  placement.ignored_scope = options.ignored_scope;
  OpenVINOQuantizer quantizer(std::move(placement));

  CompressPt2eOptions driver;
  copy_common(options, driver);
  // Modes of 8 bits leave the data aside.
  if (!openvino::is_int8(options.mode)) driver.dataset = options.dataset;
  driver.do_copy = options.do_copy;
  driver.progress = options.progress;
  driver.exchange = options.exchange;
  CompressedModel result = compress_pt2e(model, quantizer, driver);
  result.report.warnings.insert(result.report.warnings.begin(), warnings.begin(), warnings.end());
  return result;
}

}  // namespace tsquant
