#include "numerics/formats.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr int64_t kGrain = 16384;
constexpr int64_t kAny = 0;  // size of groups
constexpr double kOwn = 0;   // largest level

std::unique_ptr<Codec> integers(const FormatInfo& info, const CodeOptions& options) {
  return std::make_unique<IntegerCodec>(info.bits, options.is_signed);
}

template <const Minifloat& kFormat>
std::unique_ptr<Codec> minifloats(const FormatInfo&, const CodeOptions&) {
  return std::make_unique<MinifloatCodec>(kFormat);
}

template <const LevelTable& kTable>
std::unique_ptr<Codec> levels(const FormatInfo&, const CodeOptions&) {
  return std::make_unique<LevelCodec>(kTable);
}

std::unique_ptr<Codec> codebook(const FormatInfo& info, const CodeOptions& options) {
  return std::make_unique<LevelCodec>(options.codebook, info.bits);
}

const std::vector<OutputForm> kForms{OutputForm::kDecomposed, OutputForm::kReference, OutputForm::kFakeQuantize,
                                     OutputForm::kLowered};
const std::vector<OutputForm> kDecomposed{OutputForm::kDecomposed};
const std::vector<OutputForm> kNone{};

}  // namespace

// Adding a format is adding a row here and its name to the enum. Columns: name, bits, integer, largest, group_size,
// scale, ties; codec, forms per tensor and channel, forms per group.
const std::vector<FormatRow>& formats() {
  constexpr auto kFloat = ScaleFormat::kFloat, kPower = ScaleFormat::kPowerOfTwo, kE4M3Scale = ScaleFormat::kE4M3;
  constexpr auto kEven = Ties::kEven, kDown = Ties::kDown;
  static const std::vector<FormatRow> table = {
      {Format::kInt2, {"int2", 2, true, 2, kAny, kFloat, kEven}, integers, kForms, kNone},
      {Format::kInt3, {"int3", 3, true, 4, kAny, kFloat, kEven}, integers, kForms, kNone},
      {Format::kInt4, {"int4", 4, true, 8, kAny, kFloat, kEven}, integers, kForms, kNone},
      {Format::kInt5, {"int5", 5, true, 16, kAny, kFloat, kEven}, integers, kForms, kNone},
      {Format::kInt6, {"int6", 6, true, 32, kAny, kFloat, kEven}, integers, kForms, kNone},
      {Format::kInt7, {"int7", 7, true, 64, kAny, kFloat, kEven}, integers, kForms, kNone},
      {Format::kInt8, {"int8", 8, true, 128, kAny, kFloat, kEven}, integers, kForms, kNone},
      {Format::kF8E4M3, {"f8e4m3", 8, false, 448, kAny, kFloat, kEven}, minifloats<kE4M3>, kDecomposed, kNone},
      {Format::kF8E5M2, {"f8e5m2", 8, false, 57344, kAny, kFloat, kEven}, minifloats<kE5M2>, kDecomposed, kNone},
      {Format::kMxF8E4M3, {"mxfp8_e4m3", 8, false, 448, 32, kPower, kEven}, minifloats<kE4M3>, kNone, kNone},
      {Format::kMxF8E5M2, {"mxfp8_e5m2", 8, false, 57344, 32, kPower, kEven}, minifloats<kE5M2>, kNone, kNone},
      {Format::kFp4, {"fp4", 4, false, 6, kAny, kFloat, kEven}, minifloats<kE2M1>, kNone, kNone},
      {Format::kE2M1, {"e2m1", 4, false, 6, kAny, kPower, kEven}, minifloats<kE2M1>, kNone, kNone},
      {Format::kMxFp4, {"mxfp4", 4, false, 6, 32, kPower, kEven}, minifloats<kE2M1>, kNone, kNone},
      {Format::kNvFp4, {"nvfp4", 4, false, 6, 16, kE4M3Scale, kEven}, minifloats<kE2M1>, kNone, kNone},
      {Format::kNf4, {"nf4", 4, false, 1, kAny, kFloat, kDown}, levels<kNf4Table>, kNone, kNone},
      {Format::kCb4, {"cb4", 4, false, 3.5, kAny, kFloat, kDown}, levels<kCb4Table>, kNone, kNone},
      {Format::kIncFp4Bnb, {"fp4_e2m1_bnb", 4, false, 12, kAny, kFloat, kDown}, levels<kFp4BnbTable>, kNone, kNone},
      {Format::kIncFp4E2M1, {"fp4_e2m1", 4, false, 6, kAny, kFloat, kDown}, levels<kFp4E2M1Table>, kNone, kNone},
      {Format::kCodebook4, {"codebook4", 4, false, kOwn, kAny, kFloat, kDown}, codebook, kNone, kNone},
      {Format::kCodebook8, {"codebook8", 8, false, kOwn, kAny, kFloat, kDown}, codebook, kNone, kNone},
  };
  return table;
}

const FormatRow& row_of(Format format) {
  for (const FormatRow& row : formats()) {
    if (row.format == format) return row;
  }
  throw Error(ErrorCode::kInternal, fmt::format("format {} has no row", static_cast<int>(format)));
}

const FormatRow* find_format(const std::string& name) {
  for (const FormatRow& row : formats()) {
    if (row.info.name == name) return &row;
  }
  return nullptr;
}

const FormatInfo& format_info(Format format) { return row_of(format).info; }

Format integer_format(int64_t bits) {
  for (const FormatRow& row : formats()) {
    if (row.info.integer && row.info.bits == bits) return row.format;
  }
  throw Error(ErrorCode::kInvalidArgument, fmt::format("num_bits is {}", bits), "", "choose 2 to 8");
}

Format codebook_format(size_t levels) {
  if (levels < 2 || levels > 256) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a codebook has {} levels", levels), "codebook",
                "give 2 to 256");
  }
  return levels <= 16 ? Format::kCodebook4 : Format::kCodebook8;
}

FP8Type fp8_type_of(QuantizationMode mode) {
  return mode == QuantizationMode::kFP8E4M3 ? FP8Type::kE4M3 : FP8Type::kE5M2;
}

Format format_of(FP8Type type) { return type == FP8Type::kE4M3 ? Format::kF8E4M3 : Format::kF8E5M2; }

at::Tensor encode(const at::Tensor& scaled, Format format, const CodeOptions& options) {
  const FormatRow& row = row_of(format);
  const auto codec = row.make_codec(row.info, options);
  const auto values = scaled.to(at::kFloat).contiguous();
  const auto type = row.info.integer && options.is_signed ? at::kChar : at::kByte;
  auto codes = at::empty(values.sizes(), at::TensorOptions(type));
  const float* from = values.data_ptr<float>();
  auto* to = static_cast<uint8_t*>(codes.data_ptr());
  at::parallel_for(0, values.numel(), kGrain,
                   [&](int64_t begin, int64_t end) { codec->encode(from + begin, end - begin, to + begin); });
  return codes;
}

at::Tensor decode(const at::Tensor& codes, Format format, const CodeOptions& options) {
  if (codes.scalar_type() != at::kByte && codes.scalar_type() != at::kChar) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("codes of type {} cannot be decoded", codes.toString()),
                format_info(format).name, "give int8 or uint8");
  }
  const FormatRow& row = row_of(format);
  const auto codec = row.make_codec(row.info, options);
  const auto bytes = codes.contiguous();
  auto values = at::empty(bytes.sizes(), at::TensorOptions(at::kFloat));
  const auto* from = static_cast<const uint8_t*>(bytes.data_ptr());
  auto* to = values.data_ptr<float>();
  at::parallel_for(0, bytes.numel(), kGrain,
                   [&](int64_t begin, int64_t end) { codec->decode(from + begin, end - begin, to + begin); });
  return values;
}

}  // namespace tsquant
