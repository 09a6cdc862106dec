#include "conv_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>

#include "guarded_buffer.h"
#include "kernels/packed_conv.h"

namespace tsquant::testing {
namespace {

using kernels::ConvGeometry;
using kernels::Epilogue;

class Draw {
 public:
  explicit Draw(uint32_t seed) : engine_(seed) {}
  int64_t from(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
  bool chance(double p) { return std::bernoulli_distribution(p)(engine_); }
  float real(float low, float high) { return std::uniform_real_distribution<float>(low, high)(engine_); }
  std::mt19937& engine() { return engine_; }

 private:
  std::mt19937 engine_;
};

int64_t draw_channels(Draw& draw) { return draw.chance(0.1) ? draw.from(127, 129) : draw.from(1, 70); }

void draw_axis(Draw& draw, bool transposed, int64_t& size, int64_t& kernel, int64_t& stride, int64_t& pad,
               int64_t& dilation, int64_t& output_padding) {
  kernel = draw.chance(0.3) ? 1 : draw.from(1, 7);
  stride = draw.chance(0.5) ? 1 : draw.from(1, 4);
  dilation = draw.chance(0.7) ? 1 : draw.from(1, 3);
  pad = draw.chance(0.4) ? 0 : draw.from(0, 4);
  output_padding = transposed ? draw.from(0, std::max(stride, dilation) - 1) : 0;
  do {
    size = draw.chance(0.2) ? draw.from(1, 40) : draw.from(1, 14);
    if (transposed) pad = std::min(pad, dilation * (kernel - 1));
  } while (kernels::Axis{size, kernel, stride, pad, dilation, output_padding}.out(transposed) < 1 ||
           (!transposed && size + 2 * pad <= dilation * (kernel - 1)));
}

ConvGeometry draw_geometry(Draw& draw) {
  ConvGeometry g;
  g.transposed = draw.chance(0.25);
  g.batch = draw.chance(0.7) ? 1 : draw.from(2, 4);
  const int64_t dims = draw.chance(0.6) ? 2 : draw.from(1, 3);
  draw_axis(draw, g.transposed, g.width, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w, g.output_padding_w);
  if (dims >= 2) {
    draw_axis(draw, g.transposed, g.height, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h, g.output_padding_h);
  }
  if (dims == 3) {
    draw_axis(draw, g.transposed, g.depth, g.kernel_d, g.stride_d, g.pad_d, g.dilation_d, g.output_padding_d);
  }
  if (draw.chance(0.3)) {
    g.groups = draw.chance(0.5) ? draw.from(2, 5) : draw.from(2, 40);
    g.channels = g.groups * (draw.chance(0.3) ? 1 : draw.from(1, 9));
    g.out_channels = g.groups * (draw.chance(0.3) ? 1 : draw.from(1, draw.chance(0.2) ? 40 : 9));
  } else {
    g.channels = draw_channels(draw);
    g.out_channels = draw_channels(draw);
  }
  return g;
}

double products(const ConvGeometry& g) {
  return static_cast<double>(g.batch * g.out_pixels() * g.taps()) * static_cast<double>(g.channels / g.groups) *
         static_cast<double>(g.out_channels);
}

void draw_codes(Draw& draw, std::vector<uint8_t>& codes, size_t n) {
  codes.resize(n);
  const int64_t kind = draw.from(0, 5);
  for (auto& code : codes) {
    code = static_cast<uint8_t>(kind == 0   ? 0
                                : kind == 1 ? 255
                                : kind == 2 ? draw.from(0, 1) * 255
                                            : draw.from(0, 255));
  }
}

void draw_weight(Draw& draw, std::vector<int8_t>& weight, size_t n) {
  weight.resize(n);
  const int64_t kind = draw.from(0, 7);
  for (size_t i = 0; i < n; ++i) {
    const int64_t value = kind == 0   ? 127
                          : kind == 1 ? -128
                          : kind == 2 ? (i % 2 == 0 ? 127 : -128)
                          : kind == 3 ? 0
                                      : draw.from(-128, 127);
    weight[i] = static_cast<int8_t>(value);
  }
  if (kind == 3) weight[static_cast<size_t>(draw.from(0, static_cast<int64_t>(n) - 1))] = 127;
}

/// Some channels get a bias that no sum moves: numbers too large for an integer, infinities, NaN, the ends of ranges.
void draw_activation(Draw& draw, RandomConv& c) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float special[] = {1e30f,         -1e30f, 3e9f, -3e9f, kInfinity, -kInfinity,
                           std::nanf(""), -3.0f,  3.0f, -0.0f, 1e-40f};
  Epilogue& e = c.epilogue;
  e.activation = draw.chance(0.6) ? kernels::Activation::hardswish : kernels::Activation::hardsigmoid;
  e.low = 0;
  e.high = 255;
  e.lowest = static_cast<float>(-e.zero_point);
  e.highest = static_cast<float>(255 - e.zero_point);
  e.inverse_scale = draw.real(2.0f, 60.0f);
  const auto channels = static_cast<size_t>(c.geometry.out_channels);
  if (draw.chance(0.4)) c.factor.assign(channels + Epilogue::kSlack, 0.0f);
  for (size_t i = 0; i < channels; ++i) {
    if (!c.factor.empty()) c.factor[i] = draw.real(-0.5f, 2.0f);
    c.multiplier[i] *= 0.05f;
    for (auto& bias : c.bias) bias[i] *= 0.05f;
    if (!draw.chance(0.1)) continue;
    c.multiplier[i] = 0.0f;
    for (auto& bias : c.bias) bias[i] = special[draw.from(0, static_cast<int64_t>(std::size(special)) - 1)];
  }
}

/// LibTorch's formulas, and the order of what follows them.
uint8_t activated_naively(const RandomConv& c, float x, size_t channel) {
  const Epilogue& e = c.epilogue;
  const float shifted = x + 3.0f, bounded = shifted < 0.0f ? 0.0f : shifted > 6.0f ? 6.0f : shifted;
  const bool swish = e.activation == kernels::Activation::hardswish;
  float y = (swish ? x * bounded : bounded) / 6.0f;
  if (!c.factor.empty()) y *= c.factor[channel];
  y *= e.inverse_scale;
  if (!(y > e.lowest)) return 0;
  return static_cast<uint8_t>(static_cast<int32_t>(std::rint(std::min(y, e.highest))) + e.zero_point);
}

void draw_epilogue(Draw& draw, RandomConv& c) {
  const ConvGeometry& g = c.geometry;
  c.result = static_cast<RandomConv::Result>(draw.from(0, 6));
  const auto reach = static_cast<float>(g.taps() * g.channels / g.groups);
  // A third of the cases are full of ties: powers of two and halves.
  const bool ties = draw.chance(0.33);
  const auto padded = static_cast<size_t>(g.out_channels + Epilogue::kSlack);
  c.multiplier.assign(padded, 0.0f);
  c.bias.assign(c.phases.size(), std::vector<float>(padded, 0.0f));
  for (int64_t i = 0; i < g.out_channels; ++i) {
    const auto at = static_cast<size_t>(i);
    c.multiplier[at] = ties ? std::exp2(-static_cast<float>(draw.from(1, 14)))
                            : draw.real(0.2f, 3.0f) * 60.0f / (8000.0f * std::sqrt(reach));
    for (auto& bias : c.bias) {
      bias[at] = ties ? static_cast<float>(draw.from(-200, 200)) * 0.5f : draw.real(-100.0f, 100.0f);
    }
  }
  Epilogue& e = c.epilogue;
  e.pixel_stride = g.out_channels;
  e.zero_point = static_cast<int32_t>(draw.from(0, 255));
  if (c.result != RandomConv::Result::kCodes && draw.chance(0.5)) {
    e.low = static_cast<int32_t>(draw.from(0, 255));
    e.high = static_cast<int32_t>(draw.from(e.low, 255));
  }
  const bool bounded = c.result == RandomConv::Result::kClampedFloats;
  e.float_low = bounded ? 0.0f : -std::numeric_limits<float>::infinity();
  e.float_high = bounded ? draw.real(0.0f, 80.0f) : std::numeric_limits<float>::infinity();
  if (c.result == RandomConv::Result::kActivated) draw_activation(draw, c);
  e.other_multiplier = ties ? 0.5f : draw.real(0.01f, 2.0f);
  e.other_zero_point = static_cast<float>(draw.from(0, 255));
  e.middle = c.result == RandomConv::Result::kMiddle;
  const int64_t middle = draw.from(0, 255);
  e.middle_low = static_cast<float>(-middle);
  e.middle_high = static_cast<float>(255 - middle);
  e.middle_multiplier = ties ? 0.5f : draw.real(0.01f, 2.0f);
}

/// One result from its exact sum, in the order that epilogue.h gives.
void finish_naively(const RandomConv& c, int64_t sum, size_t phase, int64_t channel, size_t at,
                    std::vector<uint8_t>& out) {
  const Epilogue& e = c.epilogue;
  const auto once = [](long double a, long double b, long double d) { return static_cast<float>(a * b + d); };
  float f = once(static_cast<float>(sum), c.multiplier[static_cast<size_t>(channel)],
                 c.bias[phase][static_cast<size_t>(channel)]);
  if (c.floats()) {
    f = std::clamp(f, e.float_low, e.float_high);
    std::memcpy(out.data() + at * sizeof(float), &f, sizeof(float));
    return;
  }
  if (c.result == RandomConv::Result::kActivated) {
    out[at] = activated_naively(c, f, static_cast<size_t>(channel));
    return;
  }
  if (c.residual()) {
    if (e.middle) f = std::clamp(std::rint(f), e.middle_low, e.middle_high) * e.middle_multiplier;
    f = once(static_cast<float>(c.other[at]) - e.other_zero_point, e.other_multiplier, f);
  }
  const long long code = std::llrint(f) + e.zero_point;
  out[at] = static_cast<uint8_t>(std::clamp<long long>(code, e.low, e.high));
}

/// Where a tap of an output position reads along one axis, from the definition; -1: in the padding; -2: nowhere.
int64_t position_of(const kernels::Axis& axis, bool transposed, int64_t o, int64_t k) {
  int64_t position = o * axis.stride - axis.pad + k * axis.dilation;
  if (transposed) {
    position = o + axis.pad - k * axis.dilation;
    if ((position % axis.stride + axis.stride) % axis.stride != 0) return -2;
    position = position < 0 ? -1 : position / axis.stride;
  }
  return position >= 0 && position < axis.size ? position : -1;
}

size_t phase_of(const RandomConv& c, const std::array<int64_t, 3>& o) {
  if (!c.geometry.transposed) return 0;
  const auto axes = c.geometry.axes();
  size_t phase = 0;
  for (size_t i = 0; i < 3; ++i) {
    phase = phase * static_cast<size_t>(axes[i].stride) + static_cast<size_t>((o[i] + axes[i].pad) % axes[i].stride);
  }
  return phase;
}

int64_t sum_naively(const RandomConv& c, int64_t image, const std::array<int64_t, 3>& o, int64_t channel) {
  const ConvGeometry& g = c.geometry;
  const auto axes = g.axes();
  const int64_t in_group = g.channels / g.groups, group = channel / (g.out_channels / g.groups);
  int64_t sum = 0, tap = 0;
  for (int64_t kd = 0; kd < g.kernel_d; ++kd) {
    for (int64_t kh = 0; kh < g.kernel_h; ++kh) {
      for (int64_t kw = 0; kw < g.kernel_w; ++kw, ++tap) {
        const int64_t d = position_of(axes[0], g.transposed, o[0], kd);
        const int64_t h = position_of(axes[1], g.transposed, o[1], kh);
        const int64_t w = position_of(axes[2], g.transposed, o[2], kw);
        if (d == -2 || h == -2 || w == -2) continue;
        const bool inside = d >= 0 && h >= 0 && w >= 0;
        const int64_t pixel = ((image * g.depth + d) * g.height + h) * g.width + w;
        for (int64_t i = 0; i < in_group; ++i) {
          const int64_t x =
              inside ? c.source[static_cast<size_t>(pixel * g.channels + group * in_group + i)] : c.zero_point;
          sum += x * c.weight[static_cast<size_t>(g.weight_index(channel, i, tap))];
        }
      }
    }
  }
  return sum;
}

}  // namespace

std::string RandomConv::describe() const {
  const ConvGeometry& g = geometry;
  std::ostringstream out;
  out << (g.transposed ? "transposed " : "") << g.batch << "x" << g.channels << "x" << g.depth << "x" << g.height << "x"
      << g.width << " -> " << g.out_channels << ", groups " << g.groups << ", kernel " << g.kernel_d << "x"
      << g.kernel_h << "x" << g.kernel_w << ", stride " << g.stride_d << "x" << g.stride_h << "x" << g.stride_w
      << ", padding " << g.pad_d << "x" << g.pad_h << "x" << g.pad_w << ", dilation " << g.dilation_d << "x"
      << g.dilation_h << "x" << g.dilation_w << ", result kind " << static_cast<int>(result);
  return out.str();
}

namespace {

RandomConv draw_data(Draw& draw, const ConvGeometry& g) {
  RandomConv c;
  c.geometry = g;
  c.phases = kernels::phases_of(g);
  c.zero_point = static_cast<uint8_t>(draw.from(0, 255));
  draw_codes(draw, c.source, static_cast<size_t>(g.batch * g.in_pixels() * g.channels));
  draw_weight(draw, c.weight, static_cast<size_t>(g.channels / g.groups * g.out_channels * g.taps()));
  draw_epilogue(draw, c);
  if (c.residual()) draw_codes(draw, c.other, c.results());
  return c;
}

}  // namespace

RandomConv random_conv(uint32_t seed, int64_t most_products) {
  Draw draw(seed);
  ConvGeometry g;
  do {
    g = draw_geometry(draw);
  } while (products(g) > static_cast<double>(most_products));
  return draw_data(draw, g);
}

RandomConv random_conv_of(const ConvGeometry& geometry, uint32_t seed) {
  Draw draw(seed);
  return draw_data(draw, geometry);
}

std::vector<uint8_t> run_kernel(const ConvKernel& kernel, const RandomConv& c) {
  const bool at_end = c.source.size() % 3 != 0;
  const GuardedBuffer source(c.source.size(), at_end), other(c.other.size(), at_end), result(c.result_bytes(), at_end);
  std::memcpy(source.as<>(), c.source.data(), c.source.size());
  if (!c.other.empty()) std::memcpy(other.as<>(), c.other.data(), c.other.size());
  std::memset(result.as<>(), 0xa5, c.result_bytes());
  std::vector<Epilogue> epilogues;
  for (const auto& bias : c.bias) {
    Epilogue e = c.epilogue;
    e.multiplier = c.multiplier.data();
    e.bias = bias.data();
    e.factor = c.factor.empty() ? nullptr : c.factor.data();
    e.codes = c.floats() ? nullptr : result.as<>();
    e.floats = c.floats() ? result.as<float>() : nullptr;
    e.other = c.residual() ? other.as<>() : nullptr;
    epilogues.push_back(e);
  }
  kernel(source.as<>(), epilogues);
  return {result.as<>(), result.as<>() + c.result_bytes()};
}

std::vector<uint8_t> run_row(const kernels::GemmRow& row, const RandomConv& c) {
  const kernels::PackedConv packed(row, c.weight.data(), c.geometry, c.phases);
  const auto shape = packed.shape(c.geometry);
  return run_kernel(
      [&](const uint8_t* source, const auto& epilogues) { packed.run(shape, source, c.zero_point, epilogues); }, c);
}

std::vector<uint8_t> run_naively(const RandomConv& c) {
  const ConvGeometry& g = c.geometry;
  std::vector<uint8_t> out(c.result_bytes());
  size_t at = 0;
  for (int64_t image = 0; image < g.batch; ++image) {
    for (int64_t d = 0; d < g.out_depth(); ++d) {
      for (int64_t h = 0; h < g.out_height(); ++h) {
        for (int64_t w = 0; w < g.out_width(); ++w) {
          const size_t phase = phase_of(c, {d, h, w});
          for (int64_t channel = 0; channel < g.out_channels; ++channel, ++at) {
            finish_naively(c, sum_naively(c, image, {d, h, w}, channel), phase, channel, at, out);
          }
        }
      }
    }
  }
  return out;
}

}  // namespace tsquant::testing
