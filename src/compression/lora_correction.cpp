#include "compression/lora_correction.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "compression/layer_matrix.h"
#include "compression/round_to_nearest.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

void check_lora(const AdvancedLoraCorrectionParameters& p) {
  if (p.adapter_rank >= 1 && p.num_iterations >= 0) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("LoRA correction with adapter_rank {} and num_iterations {}", p.adapter_rank, p.num_iterations),
      "lora_correction_params", "give a rank of at least 1, and iterations from 0 on");
}

/// Where the groups or channels of a compressed weight lie.
QuantizationSpec spec_of_compressed(const QParams& q) {
  QuantizationSpec spec;
  spec.format = q.format;
  spec.codebook = q.codebook;
  spec.group_size = q.group_size;
  spec.group_axis = q.group_axis;
  spec.per_channel = q.per_channel;
  spec.ch_axis = q.axis;
  return spec;
}

/// Largest inputs relative to the largest of their group; all 1 for one scale per output, as in NNCF.
at::Tensor weights_of_inputs(const LayerSamples& samples, const QParams& q) {
  const auto s = samples.magnitudes().to(at::kDouble);
  if (q.group_size == 0) return at::ones_like(s);
  const auto groups = s.reshape({-1, q.group_size});
  const auto largest = groups.amax({1}, /*keepdim=*/true);
  return at::where(largest > 0, groups / largest, at::zeros_like(groups)).flatten();
}

/// R is about U V: [inputs, rank], orthonormal, and [rank, outputs].
struct Factors {
  at::Tensor u, v;
};

/// The best approximation of this rank, from the eigenvectors of the smaller Gram matrix.
Factors truncated_svd(const at::Tensor& r, int64_t rank) {
  if (r.size(0) < r.size(1)) {
    const auto vectors = std::get<1>(at::linalg_eigh(at::mm(r, r.t())));
    const auto u = vectors.narrow(1, r.size(0) - rank, rank).flip({1}).contiguous();
    return {u, at::mm(u.t(), r)};
  }
  const auto vectors = std::get<1>(at::linalg_eigh(at::mm(r.t(), r)));
  const auto v = vectors.narrow(1, r.size(1) - rank, rank).flip({1});
  const auto scaled = at::mm(r, v);  // U S
  const auto s = scaled.square().sum(0, /*keepdim=*/true).sqrt();
  const auto u = at::where(s > 0, scaled / s, at::zeros_like(scaled));
  return {u, s.t() * v.t()};
}

/// Least squares in turn, with `residual` R [inputs, outputs] and samples X [samples, inputs].
class Refinement {
 public:
  Refinement(const at::Tensor& residual, const at::Tensor& x, bool regularize)
      : residual_(residual), x_(x), noise_(at::mm(x, residual)), regularize_(regularize) {
    if (!regularize_) {
      x_inverse_ = at::linalg_pinv(x_);
      return;
    }
    const auto gram = at::mm(x_, x_.t()) + at::eye(x_.size(0), x_.options());
    kernel_ = std::get<0>(at::linalg_cholesky_ex(gram));
  }

  /// V that makes X U V closest to X R, and with regularization U V to R.
  at::Tensor fit_v(const at::Tensor& u) const {
    const auto xu = at::mm(x_, u);
    if (!regularize_) return at::mm(at::linalg_pinv(xu), noise_);
    const auto normal = at::mm(u.t(), u) + at::mm(xu.t(), xu);
    const auto wanted = at::mm(u.t(), residual_) + at::mm(xu.t(), noise_);
    return at::mm(at::linalg_pinv(normal, 1e-15, /*hermitian=*/true), wanted);
  }

  /// U that makes X U closest to X R V^+, and with regularization U to R V^+.
  at::Tensor fit_u(const at::Tensor& v) const {
    const auto v_inverse = at::linalg_pinv(v);
    const auto target = at::mm(noise_, v_inverse);
    if (!regularize_) return at::mm(x_inverse_, target);
    // (I + X^T X)^-1 = I - X^T (I + X X^T)^-1 X
    const auto wanted = at::mm(residual_, v_inverse) + at::mm(x_.t(), target);
    return wanted - at::mm(x_.t(), at::cholesky_solve(at::mm(x_, wanted), kernel_));
  }

 private:
  at::Tensor residual_, x_, noise_;
  bool regularize_;
  at::Tensor x_inverse_;  ///< X^+
  at::Tensor kernel_;     ///< Cholesky factor of I + X X^T
};

/// A matrix in 8-bit codes, one scale and zero point per row.
CompressedWeight int8_rows(const at::Tensor& x) {
  QuantizationSpec spec;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.per_channel = true;
  return round_to_nearest(x, spec);
}

}  // namespace

LoraAdapters lora_correction(const at::Tensor& weight, const CompressedWeight& compressed, const LayerSamples& samples,
                             const AdvancedLoraCorrectionParameters& parameters) {
  check_lora(parameters);
  if (compressed.codes.sizes() != weight.sizes()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("codes of shape [{}] for a weight of shape [{}]", fmt::join(compressed.codes.sizes(), ", "),
                            fmt::join(weight.sizes(), ", ")),
                "lora_correction");
  }
  const LayerMatrix matrix(weight, spec_of_compressed(compressed.qparams), "lora_correction");
  const auto inputs = samples.inputs(parameters.subset_size);
  matrix.check_channels(inputs.size(0));
  const auto quantized = matrix.from_given(decompress(compressed));
  const auto residual = (matrix.weight().to(at::kDouble) - quantized.to(at::kDouble)).t().contiguous();
  const auto scale = weights_of_inputs(samples, compressed.qparams).unsqueeze(1);

  const int64_t rank = std::min({parameters.adapter_rank, matrix.inputs(), matrix.outputs()});
  Factors factors = truncated_svd(residual * scale, rank);
  if (parameters.num_iterations == 0) {
    factors.u = at::where(scale > 0, factors.u / scale, at::zeros_like(factors.u));
  } else {
    const Refinement refinement(residual, inputs.t().to(at::kDouble).contiguous(), parameters.apply_regularization);
    for (int64_t i = 0; i < parameters.num_iterations; ++i) {
      factors.v = refinement.fit_v(factors.u);
      factors.u = refinement.fit_u(factors.v);
    }
  }

  LoraAdapters result;
  result.a = factors.u.t().to(at::kFloat).contiguous();
  result.b = factors.v.t().to(at::kFloat).contiguous();
  if (parameters.use_int8_adapters) {
    result.a_codes = int8_rows(result.a);
    result.b_codes = int8_rows(result.b);
    result.a = decompress(*result.a_codes);
    result.b = decompress(*result.b_codes);
  }
  result.error.before = error_by_inputs(matrix.weight(), quantized, inputs);
  result.error.after = error_by_inputs(matrix.weight(), quantized + at::mm(result.b, result.a), inputs);
  return result;
}

}  // namespace tsquant
