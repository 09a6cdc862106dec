#include "compression/scale_estimation.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "compression/group_scale_estimator.h"
#include "compression/layer_matrix.h"
#include "compression/round_to_nearest.h"

namespace tsquant {

EstimatedWeight estimate_scales(const at::Tensor& weight, const QuantizationSpec& spec, const LayerSamples& samples,
                                const AdvancedScaleEstimationParameters& parameters) {
  const LayerMatrix matrix(weight, spec, "scale_estimation");
  const auto inputs = samples.inputs(parameters.subset_size), magnitudes = samples.magnitudes();
  matrix.check_channels(inputs.size(0));
  auto compressed = round_to_nearest(matrix.weight(), matrix.spec());
  EstimatedWeight result;
  result.error.before = error_by_inputs(matrix.weight(), decompress(compressed), inputs);

  QParams& q = compressed.qparams;
  const GroupCodec codec(q);
  const auto scale = whole_scales(q);
  const auto zero_point = q.zero_point.contiguous();
  const int64_t size = matrix.group_size(), groups = matrix.groups();
  for (int64_t group = 0; group < groups; ++group) {
    const GroupScaleEstimator estimator(codec, inputs.narrow(0, group * size, size),
                                        magnitudes.narrow(0, group * size, size), parameters);
    at::parallel_for(0, matrix.outputs(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        float& value = scale.data_ptr<float>()[row * groups + group];
        value = estimator.estimate(matrix.weight().data_ptr<float>() + row * matrix.inputs() + group * size, value,
                                   zero_point.data_ptr<int64_t>()[row * groups + group]);
      }
    });
  }
  set_whole_scales(q, scale);
  compressed.codes = quantize(matrix.weight(), q);
  result.error.after = error_by_inputs(matrix.weight(), decompress(compressed), inputs);
  result.weight = matrix.as_given(compressed);
  return result;
}

}  // namespace tsquant
