#include "lowering/compressed/stored_weight.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "lowering/compressed/broadcast_scale.h"
#include "numerics/formats.h"
#include "numerics/pack.h"

namespace tsquant {

namespace {

/// By code. Codes that the format does not have stand for its last level, or 0.
at::Tensor level_table(const QParams& q) {
  const FormatInfo& info = format_info(q.format);
  if (info.integer) return {};
  CodeOptions options;
  options.codebook = q.codebook;
  const auto codes = at::arange(int64_t{1} << info.bits, at::kByte);
  return at::nan_to_num(decode(codes, q.format, options), q.codebook.empty() ? 0 : q.codebook.back());
}

/// The levels before the first one that is repeated.
std::vector<float> codebook_of(const at::Tensor& table) {
  const auto levels = table.contiguous();
  const float* begin = levels.data_ptr<float>();
  int64_t count = 1;
  while (count < levels.numel() && begin[count] > begin[count - 1]) ++count;
  return {begin, begin + count};
}

/// Calls visit(begin, values) for parts of the first axis of `groups`, so that what is in between stays small.
/// `values` have the type that the scales give them.
void for_parts(const StoredWeight& stored, const std::function<void(int64_t begin, const at::Tensor& values)>& visit) {
  constexpr int64_t kPartValues = 1 << 18;
  int64_t values = 1;
  for (const int64_t size : stored.shape) values *= size;
  if (values == 0) return;
  const int64_t length = stored.groups.front(), rows = stored.shape.front() / length;
  const bool whole = stored.shape.size() == 1;  // one packed row
  const int64_t step = whole ? length : std::max<int64_t>(1, kPartValues * length / values);
  const auto part_of = [&](const at::Tensor& x, int64_t begin, int64_t count) {
    return x.size(0) == 1 ? x : x.narrow(0, begin, count);
  };
  const QParams q = restore_parameters(stored);
  at::Tensor zero_point;
  if (stored.zero_point.defined()) zero_point = q.zero_point.reshape(stored.scale.sizes()).to(at::kHalf);
  std::vector<int64_t> shape = stored.groups;
  for (int64_t begin = 0; begin < length; begin += step) {
    shape[0] = std::min(step, length - begin);
    const auto packed = whole ? stored.codes : stored.codes.narrow(0, begin * rows, shape[0] * rows);
    const auto codes = restored_codes(packed, stored.format, stored.shape.back(), q.dtype).reshape(shape);
    at::Tensor x;
    if (stored.table.defined()) {
      x = at::take(stored.table, codes.to(at::kLong));
    } else {
      x = codes.to(at::kHalf);
      if (zero_point.defined()) x.sub_(part_of(zero_point, begin, shape[0]));
    }
    visit(begin, x * part_of(stored.scale, begin, shape[0]));
  }
}

/// Whether float16 makes no value infinite and none but 0 to 0.
bool fit_halves(const at::Tensor& scale) {
  constexpr float kToInfinity = 65520, kToZero = 0x1p-25F;  // halfway beyond the largest number, and below the smallest
  const auto values = scale.contiguous();
  const auto* x = values.data_ptr<float>();
  bool fit = true;
  for (int64_t i = 0; i < values.numel(); ++i) {
    const float size = std::fabs(x[i]);
    fit &= size < kToInfinity && (size > kToZero || size == 0);
  }
  return fit;
}

/// float16 as NNCF stores it; what float16 would make infinite or zero stays float32.
at::Tensor stored_scale(const at::Tensor& scale) { return fit_halves(scale) ? scale.to(at::kHalf) : scale; }

}  // namespace

int64_t StoredWeight::bytes() const {
  int64_t sum = 0;
  for (const auto& tensor : {codes, scale, zero_point, table}) {
    if (tensor.defined()) sum += static_cast<int64_t>(tensor.nbytes());
  }
  return sum;
}

at::Tensor stored_codes(const at::Tensor& codes, Format format) {
  return format_info(format).bits == 8 ? codes.contiguous() : pack(codes, format);
}

at::Tensor restored_codes(const at::Tensor& stored, Format format, int64_t size, c10::ScalarType dtype) {
  return format_info(format).bits == 8 ? stored : unpack(stored, format, size, dtype);
}

QParams code_parameters(Format format, bool is_signed, std::vector<float> codebook) {
  const FormatInfo& info = format_info(format);
  const int64_t levels = int64_t{1} << (info.integer ? info.bits : 8);
  QParams q;
  q.format = format;
  q.formula = QParamsFormula::kNncfCompression;
  q.codebook = std::move(codebook);
  q.dtype = is_signed ? c10::kChar : c10::kByte;
  q.quant_min = is_signed ? -levels / 2 : 0;
  q.quant_max = q.quant_min + levels - 1;
  return q;
}

StoredWeight store_weight(const CompressedWeight& weight, at::IntArrayRef shape, c10::ScalarType dtype) {
  const QParams& q = weight.qparams;
  StoredWeight stored;
  stored.format = q.format;
  stored.is_signed = format_info(q.format).integer && weight.codes.scalar_type() == c10::kChar;
  stored.shape = shape.vec();
  stored.dtype = dtype;
  const BroadcastScale broadcast = broadcast_scale(weight);
  stored.groups = broadcast.groups;
  stored.scale = stored_scale(broadcast.scale).contiguous();
  stored.codes = stored_codes(weight.codes, q.format);
  stored.table = level_table(q);
  if (format_info(q.format).integer && !stored.is_signed) {
    stored.zero_point = stored_codes(q.zero_point.to(at::kByte).reshape({-1}), q.format);
  }
  return stored;
}

QParams restore_parameters(const StoredWeight& stored) {
  QParams q = code_parameters(stored.format, stored.is_signed,
                              has_codebook(stored.format) ? codebook_of(stored.table) : std::vector<float>());
  set_scale(q, stored.scale.to(at::kFloat), stored.shape, stored.groups);
  q.zero_point = at::zeros(q.scale.sizes(), at::kLong);
  if (stored.zero_point.defined()) {
    q.zero_point = restored_codes(stored.zero_point, stored.format, q.scale.numel(), c10::kByte)
                       .to(at::kLong)
                       .reshape(q.scale.sizes());
  }
  return q;
}

CompressedWeight restore_weight(const StoredWeight& stored) {
  CompressedWeight weight;
  weight.qparams = restore_parameters(stored);
  weight.codes = restored_codes(stored.codes, stored.format, stored.shape.back(), weight.qparams.dtype);
  return weight;
}

StoredWeight swap_axes(const StoredWeight& stored, int64_t a, int64_t b) {
  CompressedWeight weight = restore_weight(stored);
  const auto moved = [&](int64_t axis) { return axis == a ? b : axis == b ? a : axis; };
  QParams& q = weight.qparams;
  if (q.group_size > 0) {
    q.scale = q.scale.transpose(a, b).contiguous();
    q.zero_point = q.zero_point.transpose(a, b).contiguous();
    q.group_axis = moved(at::maybe_wrap_dim(q.group_axis, weight.codes.dim()));
  } else if (q.per_channel) {
    q.axis = moved(q.axis);
  }
  weight.codes = weight.codes.transpose(a, b).contiguous();
  StoredWeight swapped = store_weight(weight, weight.codes.sizes(), stored.dtype);
  swapped.scale = swapped.scale.to(stored.scale.scalar_type());
  return swapped;
}

at::Tensor decompressed_value(const StoredWeight& stored) {
  auto values = at::empty(stored.groups, at::TensorOptions(stored.dtype));
  for_parts(stored, [&](int64_t begin, const at::Tensor& part) { values.narrow(0, begin, part.size(0)).copy_(part); });
  return values.reshape(stored.shape);
}

double error_of_stored(const at::Tensor& weight, const StoredWeight& stored) {
  const auto groups = weight.detach().reshape(stored.groups);
  double error = 0, total = 0;
  for_parts(stored, [&](int64_t begin, const at::Tensor& part) {
    const auto w = groups.narrow(0, begin, part.size(0)).to(at::kFloat);
    total += w.square().sum(at::kDouble).item<double>();
    error += (w - part.to(stored.dtype).to(at::kFloat)).square_().sum(at::kDouble).item<double>();
  });
  return total > 0 ? error / total : 0;
}

}  // namespace tsquant
