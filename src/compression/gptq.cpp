#include "compression/gptq.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "compression/group_scale_estimator.h"
#include "compression/layer_matrix.h"
#include "compression/round_to_nearest.h"
#include "numerics/groups.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Rows that are quantized together: one column of them is encoded at once.
constexpr int64_t kGptqRows = 128;
/// Rows that are in float64 at one time: heads of language models have many.
constexpr int64_t kPanelRows = 4096;
constexpr int kDampings = 8;

void check_gptq(const AdvancedGPTQParameters& p, const LayerMatrix& matrix, const at::Tensor& hessian) {
  if (!(p.damp_percent > 0) || p.block_size < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("GPTQ with damp_percent {} and block_size {}", p.damp_percent, p.block_size), "gptq_params",
                "give a damp_percent above 0 and a block_size of at least 1");
  }
  if (hessian.dim() != 2 || hessian.size(0) != hessian.size(1)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a Hessian of shape [{}]", fmt::join(hessian.sizes(), ", ")),
                "gptq", "give the matrix of hessian_of");
  }
  matrix.check_channels(hessian.size(0));
  if (!at::isfinite(hessian).all().item<bool>()) {
    throw Error(ErrorCode::kCalibration, "a Hessian has NaN or infinite values", "gptq", "check the calibration data");
  }
}

/// U with H^-1 = U^T U, upper triangular, and the damping that it took.
struct InverseFactor {
  at::Tensor upper;
  double damp_percent;
};

/// A square matrix whose columns lie side by side, in the other order and the same memory.
at::Tensor with_rows_side_by_side(const at::Tensor& matrix) {
  constexpr int64_t kBlock = 512;
  const auto rows = matrix.t();
  const int64_t width = rows.size(0);
  for (int64_t i = 0; i < width; i += kBlock) {
    for (int64_t j = 0; j <= i; j += kBlock) {
      const int64_t height = std::min(kBlock, width - i), count = std::min(kBlock, width - j);
      const auto below = rows.narrow(0, i, height).narrow(1, j, count),
                 above = rows.narrow(0, j, count).narrow(1, i, height);
      const auto kept = below.clone();
      below.copy_(above.t().clone());
      if (i != j) above.copy_(kept.t());
    }
  }
  return rows;
}

/// @param dead channels whose row of the Hessian is 0: they get a 1 on the diagonal
InverseFactor factor_of_inverse(const at::Tensor& hessian, const at::Tensor& dead, double damp_percent) {
  const auto diagonal = hessian.diagonal() + dead.to(at::kDouble);
  at::Tensor failed = at::empty({}, at::kInt);
  for (int attempt = 0; attempt < kDampings; ++attempt, damp_percent *= 10) {
    // Matrices are large: LAPACK works in the memory of this one, which is symmetric, so that its columns lie side by
    // side.
    auto matrix = hessian.clone().t();
    matrix.diagonal().copy_(diagonal + diagonal.mean() * damp_percent);
    at::linalg_cholesky_ex_out(matrix, failed, matrix);
    if (failed.item<int64_t>() != 0) continue;
    at::cholesky_inverse_out(matrix, matrix);
    at::linalg_cholesky_ex_out(matrix, failed, matrix, /*upper=*/true);
    if (failed.item<int64_t>() == 0) return {with_rows_side_by_side(matrix), damp_percent};
  }
  throw Error(ErrorCode::kCalibration, "no damping makes the Hessian of a layer positive definite", "gptq",
              "check the calibration data, or do without gptq for this layer");
}

/// Scales and zero points of one group for all rows.
class GroupParameters {
 public:
  /// @param q of the weight by plain rounding
  GroupParameters(const LayerMatrix& matrix, const QParams& q, const GroupCodec& codec)
      : spec_(matrix.spec()), codec_(codec), fixed_factor_(q.tensor_scale.defined()) {
    // Formats with a factor of the whole tensor keep that of plain rounding.
    if (fixed_factor_) spec_.format = Format::kFp4;
    if (clamps_zero_points(spec_)) tolerated_ = largest_half_step(q.range, spec_);
  }

  void estimate_with(const LayerSamples& samples, const AdvancedScaleEstimationParameters& parameters) {
    inputs_ = samples.inputs(parameters.subset_size);
    magnitudes_ = samples.magnitudes();
    estimation_ = &parameters;
  }

  /// @param group its weights, float32 [rows, group_size]
  /// @param first its first column
  void find(const at::Tensor& group, int64_t first, float* scales, int64_t* zero_points) const {
    const auto q = choose_qparams(group_range(group, spec_.group_size, 1), spec_, PointKind::kWeight, tolerated_);
    for (int64_t row = 0; row < group.size(0); ++row) {
      const float scale = q.scale.data_ptr<float>()[row];
      scales[row] = fixed_factor_ ? codec_.storable(scale) : scale;
      zero_points[row] = q.zero_point.data_ptr<int64_t>()[row];
    }
    if (estimation_ == nullptr) return;
    const GroupScaleEstimator estimator(codec_, inputs_.narrow(0, first, spec_.group_size),
                                        magnitudes_.narrow(0, first, spec_.group_size), *estimation_);
    const float* w = group.data_ptr<float>();
    at::parallel_for(0, group.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        scales[row] = estimator.estimate(w + row * spec_.group_size, scales[row], zero_points[row]);
      }
    });
  }

 private:
  QuantizationSpec spec_;
  const GroupCodec& codec_;
  bool fixed_factor_;
  c10::optional<float> tolerated_;  ///< of the whole weight, not of the groups that are found together
  at::Tensor inputs_, magnitudes_;
  const AdvancedScaleEstimationParameters* estimation_ = nullptr;
};

/// @param work called with the first row and the number of rows of each panel
template <typename Work>
void for_each_rows(int64_t rows, const Work& work) {
  for (int64_t first = 0; first < rows; first += kPanelRows) work(first, std::min(kPanelRows, rows - first));
}

/// The output error of these values of a weight; without values, the energy of the outputs.
double energy_of(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& hessian) {
  double sum = 0;
  for_each_rows(weight.size(0), [&](int64_t first, int64_t count) {
    auto part = weight.narrow(0, first, count).to(at::kDouble);
    if (values.defined()) part = values.narrow(0, first, count).to(at::kDouble) - part;
    sum += output_energy(part, hessian);
  });
  return sum;
}

/// Some rows of a weight, which do not depend on the others.
class GptqRun {
 public:
  /// @param rows float32 [rows, columns]
  GptqRun(const at::Tensor& rows, int64_t group_size, const GroupCodec& codec, const GroupParameters& parameters,
          const at::Tensor& upper)
      : codec_(codec),
        parameters_(parameters),
        upper_(upper),
        weight_(rows.to(at::kDouble)),
        rows_(rows.size(0)),
        columns_(rows.size(1)),
        group_size_(group_size),
        codes_(at::empty({columns_, rows_}, at::kByte)),
        scales_(columns_ / group_size * rows_),
        zero_points_(scales_.size()) {}

  void drop_columns(const at::Tensor& dead) { weight_.masked_fill_(dead, 0); }

  void run(int64_t block_size) {
    for (int64_t first = 0; first < columns_; first += block_size) {
      const int64_t count = std::min(block_size, columns_ - first), rest = columns_ - first - count;
      find_groups(first, count);
      const auto errors = at::empty({count, rows_}, at::kDouble);
      at::parallel_for(0, rows_, kGptqRows, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row += kGptqRows) {
          quantize_rows(first, count, row, std::min(kGptqRows, end - row), errors);
        }
      });
      if (rest == 0) continue;
      weight_.narrow(1, first + count, rest)
          .addmm_(errors.t(), upper_.narrow(0, first, count).narrow(1, first + count, rest), 1, -1);
    }
  }

  at::Tensor codes(c10::ScalarType type) const {
    const auto codes = codes_.t().contiguous();
    return type == at::kByte ? codes : codes.view(type);
  }
  at::Tensor scales() const { return by_row(at::tensor(scales_, at::kFloat)); }
  at::Tensor zero_points() const { return by_row(at::tensor(zero_points_, at::kLong)); }

 private:
  at::Tensor by_row(const at::Tensor& x) const { return x.reshape({-1, rows_}).t().contiguous(); }

  /// Parameters of the groups that begin in this block.
  void find_groups(int64_t first, int64_t count) {
    const int64_t begin = (first + group_size_ - 1) / group_size_;
    for (int64_t group = begin; group * group_size_ < first + count; ++group) {
      const auto values = weight_.narrow(1, group * group_size_, group_size_).to(at::kFloat).contiguous();
      parameters_.find(values, group * group_size_, scales_.data() + group * rows_,
                       zero_points_.data() + group * rows_);
    }
  }

  /// The block's columns for some rows. The weights are copied with a column's rows side by side.
  void quantize_rows(int64_t first, int64_t count, int64_t row, int64_t rows, const at::Tensor& errors) {
    const auto block = weight_.narrow(0, row, rows).narrow(1, first, count).t().contiguous();  // [count, rows], float64
    auto* w = block.data_ptr<double>();
    std::vector<float> values(rows), levels(rows);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t column = first + i, parameters = column / group_size_ * rows_ + row;
      double* current = w + i * rows;
      for (int64_t r = 0; r < rows; ++r) values[r] = static_cast<float>(current[r]);
      codec_.encode_each(values.data(), rows, scales_.data() + parameters, zero_points_.data() + parameters,
                         codes_.data_ptr<uint8_t>() + column * rows_ + row, levels.data());
      const double* factors = upper_.data_ptr<double>() + column * columns_ + first;
      double* error = errors.data_ptr<double>() + i * rows_ + row;
      for (int64_t r = 0; r < rows; ++r) {
        error[r] = (current[r] - levels[r] * scales_[parameters + r]) / factors[i];
      }
      for (int64_t k = i + 1; k < count; ++k) {
        for (int64_t r = 0; r < rows; ++r) w[k * rows + r] -= factors[k] * error[r];
      }
    }
  }

  const GroupCodec& codec_;
  const GroupParameters& parameters_;
  at::Tensor upper_;
  at::Tensor weight_;  ///< float64, as far as earlier blocks have changed it
  int64_t rows_, columns_, group_size_;
  at::Tensor codes_;           ///< [columns, rows]
  std::vector<float> scales_;  ///< [groups][rows]
  std::vector<int64_t> zero_points_;
};

GptqWeight run_gptq(const LayerMatrix& matrix, const at::Tensor& given_hessian,
                    const AdvancedGPTQParameters& parameters, const LayerSamples* samples,
                    const AdvancedScaleEstimationParameters& estimation) {
  check_gptq(parameters, matrix, given_hessian);
  const auto hessian = given_hessian.to(at::kDouble);
  auto compressed = round_to_nearest(matrix.weight(), matrix.spec());
  GptqWeight result;
  const double total = energy_of(matrix.weight(), {}, hessian);
  const auto error_now = [&] {
    return relative_error(energy_of(matrix.weight(), decompress(compressed), hessian), total);
  };
  result.error.before = error_now();

  const auto dead = hessian.diagonal() == 0;
  const InverseFactor factor = factor_of_inverse(hessian, dead, parameters.damp_percent);
  result.damp_percent = factor.damp_percent;
  const GroupCodec codec(compressed.qparams);
  GroupParameters group_parameters(matrix, compressed.qparams, codec);
  if (samples != nullptr) group_parameters.estimate_with(*samples, estimation);
  const auto scales = at::empty({matrix.outputs(), matrix.groups()}, at::kFloat);
  const auto zero_points = at::empty({matrix.outputs(), matrix.groups()}, at::kLong);
  for_each_rows(matrix.outputs(), [&](int64_t first, int64_t count) {
    GptqRun run(matrix.weight().narrow(0, first, count), matrix.group_size(), codec, group_parameters, factor.upper);
    run.drop_columns(dead);
    run.run(parameters.block_size);
    compressed.codes.narrow(0, first, count).copy_(run.codes(compressed.codes.scalar_type()));
    scales.narrow(0, first, count).copy_(run.scales());
    zero_points.narrow(0, first, count).copy_(run.zero_points());
  });
  set_whole_scales(compressed.qparams, scales);
  compressed.qparams.zero_point = zero_points;
  result.error.after = error_now();
  result.weight = matrix.as_given(compressed);
  return result;
}

}  // namespace

GptqWeight gptq(const at::Tensor& weight, const QuantizationSpec& spec, const at::Tensor& hessian,
                const AdvancedGPTQParameters& parameters) {
  return run_gptq(LayerMatrix(weight, spec, "gptq"), hessian, parameters, nullptr, {});
}

GptqWeight gptq_with_scale_estimation(const at::Tensor& weight, const QuantizationSpec& spec, const at::Tensor& hessian,
                                      const LayerSamples& samples, const AdvancedGPTQParameters& parameters,
                                      const AdvancedScaleEstimationParameters& estimation) {
  const LayerMatrix matrix(weight, spec, "gptq");
  matrix.check_channels(samples.magnitudes().numel());
  auto estimated = run_gptq(matrix, hessian, parameters, &samples, estimation);
  const FormatInfo& info = format_info(spec.format);
  if (info.integer && info.bits == 4) return estimated;
  auto plain = run_gptq(matrix, hessian, parameters, nullptr, {});
  return plain.error.after <= estimated.error.after ? plain : estimated;
}

AdvancedScaleEstimationParameters scale_estimation_in_gptq(const AdvancedScaleEstimationParameters& given) {
  const AdvancedScaleEstimationParameters plain;
  const bool is_plain = given.subset_size == plain.subset_size && given.initial_steps == plain.initial_steps &&
                        given.scale_steps == plain.scale_steps && given.weight_penalty == plain.weight_penalty;
  if (!is_plain) return given;
  AdvancedScaleEstimationParameters nncf;
  nncf.subset_size = 32;
  nncf.scale_steps = 10;
  return nncf;
}

}  // namespace tsquant
