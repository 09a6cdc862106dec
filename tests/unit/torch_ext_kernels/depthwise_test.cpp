#include "kernels/depthwise_hwy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/random_cases.h"
#include "targets.h"

// Against a naive sum with the same epilogue, for every instruction set, on memory that ends or begins at a forbidden
// page.
namespace tsquant::testing {
namespace {

using kernels::ConvGeometry;
using kernels::Epilogue;

enum class Form { kCodes, kResidual, kResidualAfterQuantizing, kFloats };
enum class Data { kRandom, kLargest, kSmallest, kAlternating };

struct Problem {
  ConvGeometry g;
  std::vector<uint8_t> source;
  std::vector<int8_t> weight;
  std::vector<float> multiplier, bias;
  std::vector<uint8_t> other;
  uint8_t zero_point = 0;
  Epilogue e;  // without pointers
};

int64_t at_most(std::mt19937& random, int64_t most) { return static_cast<int64_t>(random() % (most + 1)); }

ConvGeometry random_geometry(std::mt19937& random) {
  ConvGeometry g;
  const int64_t channels[] = {1, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 63, 72, 96, 130, 200};
  g.batch = 1 + at_most(random, 1);
  g.channels = g.out_channels = channels[random() % std::size(channels)];
  g.height = 1 + at_most(random, 13);
  g.width = 1 + at_most(random, random() % 3 == 0 ? 45 : 17);  // wide ones gather the windows at their borders
  if (random() % 4 != 0) {
    g.kernel_h = g.kernel_w = 3 + 2 * at_most(random, 2);
    g.stride_h = g.stride_w = 1 + at_most(random, 1);
  } else {
    g.kernel_h = 1 + at_most(random, 6);
    g.kernel_w = 1 + at_most(random, 6);
    g.stride_h = 1 + at_most(random, 2);
    g.stride_w = 1 + at_most(random, 2);
    g.dilation_h = 1 + at_most(random, 2);
    g.dilation_w = 1 + at_most(random, 2);
  }
  g.pad_h = at_most(random, g.kernel_h);
  g.pad_w = at_most(random, g.kernel_w);
  const bool fits = g.height + 2 * g.pad_h > g.dilation_h * (g.kernel_h - 1) &&
                    g.width + 2 * g.pad_w > g.dilation_w * (g.kernel_w - 1);
  return fits ? g : random_geometry(random);
}

void fill(Problem& p, Data data, std::mt19937& random) {
  for (size_t i = 0; i < p.source.size(); ++i) {
    p.source[i] = data == Data::kRandom                 ? static_cast<uint8_t>(random())
                  : data == Data::kAlternating && i % 2 ? 0
                                                        : 255;
  }
  for (size_t i = 0; i < p.weight.size(); ++i) {
    const int8_t extreme = data == Data::kLargest ? 127 : data == Data::kSmallest ? -128 : i % 2 ? 127 : -127;
    p.weight[i] = data == Data::kRandom ? static_cast<int8_t>(random()) : extreme;
  }
}

Problem problem_of(const ConvGeometry& geometry, Form form, Data data, std::mt19937& random) {
  Problem p;
  p.g = geometry;
  const ConvGeometry& g = p.g;
  p.source.resize(static_cast<size_t>(g.batch * g.height * g.width * g.channels));
  p.weight.resize(static_cast<size_t>(g.channels * g.kernel_h * g.kernel_w));
  fill(p, data, random);
  p.zero_point = static_cast<uint8_t>(random());
  std::uniform_real_distribution<float> unit(0.0f, 1.0f);
  for (int64_t c = 0; c < g.channels; ++c) {
    p.multiplier.push_back(unit(random) * 200.0f / (255.0f * 127.0f * static_cast<float>(g.kernel_h * g.kernel_w)));
    p.bias.push_back(unit(random) * 300.0f - 150.0f);
  }
  p.other = random_bytes(g.batch * g.out_pixels() * g.channels, random);
  p.e.other_multiplier = unit(random);
  p.e.other_zero_point = static_cast<float>(random() % 256);
  p.e.middle = form == Form::kResidualAfterQuantizing;
  p.e.middle_low = -100.0f + static_cast<float>(random() % 100);
  p.e.middle_high = p.e.middle_low + static_cast<float>(random() % 256);
  p.e.middle_multiplier = unit(random);
  p.e.zero_point = static_cast<int32_t>(random() % 256);
  p.e.low = static_cast<int32_t>(random() % 40);
  p.e.high = 255 - static_cast<int32_t>(random() % 40);
  const float inf = std::numeric_limits<float>::infinity();
  p.e.float_low = random() % 2 ? -inf : -20.0f;
  p.e.float_high = random() % 2 ? inf : 30.0f;
  return p;
}

Problem make_problem(Form form, Data data, std::mt19937& random) {
  return problem_of(random_geometry(random), form, data, random);
}

int32_t naive_sum(const Problem& p, int64_t n, int64_t oy, int64_t ox, int64_t c) {
  const ConvGeometry& g = p.g;
  double sum = 0;
  for (int64_t ky = 0; ky < g.kernel_h; ++ky) {
    for (int64_t kx = 0; kx < g.kernel_w; ++kx) {
      const int64_t y = oy * g.stride_h - g.pad_h + ky * g.dilation_h,
                    x = ox * g.stride_w - g.pad_w + kx * g.dilation_w;
      const bool inside = y >= 0 && y < g.height && x >= 0 && x < g.width;
      const double code =
          inside ? p.source[static_cast<size_t>(((n * g.height + y) * g.width + x) * g.channels + c)] : p.zero_point;
      sum += code * p.weight[static_cast<size_t>((c * g.kernel_h + ky) * g.kernel_w + kx)];
    }
  }
  return static_cast<int32_t>(sum);
}

float requantized(const Problem& p, int32_t sum, int64_t c) {
  return std::fma(static_cast<float>(sum), p.multiplier[static_cast<size_t>(c)], p.bias[static_cast<size_t>(c)]);
}

uint8_t naive_code(const Problem& p, Form form, int32_t sum, int64_t c, size_t at) {
  const Epilogue& e = p.e;
  float f = requantized(p, sum, c);
  if (form == Form::kResidualAfterQuantizing) {
    f = std::min(std::max(std::nearbyint(f), e.middle_low), e.middle_high) * e.middle_multiplier;
  }
  if (form != Form::kCodes) {
    f = std::fma(static_cast<float>(p.other[at]) - e.other_zero_point, e.other_multiplier, f);
  }
  const double code = std::nearbyint(f) + static_cast<double>(e.zero_point);
  return static_cast<uint8_t>(std::min<double>(e.high, std::max<double>(e.low, code)));
}

/// Calls check(index in a dense output, sum, channel) for every output.
template <class Check>
void for_each_output(const Problem& p, const Check& check) {
  const ConvGeometry& g = p.g;
  size_t at = 0;
  for (int64_t n = 0; n < g.batch; ++n) {
    for (int64_t oy = 0; oy < g.out_height(); ++oy) {
      for (int64_t ox = 0; ox < g.out_width(); ++ox) {
        for (int64_t c = 0; c < g.channels; ++c, ++at) check(at, naive_sum(p, n, oy, ox, c), c);
      }
    }
  }
}

std::string text(const ConvGeometry& g) {
  std::string s;
  for (const int64_t v : {g.batch, g.channels, g.height, g.width, g.kernel_h, g.kernel_w, g.stride_h, g.stride_w,
                          g.pad_h, g.pad_w, g.dilation_h, g.dilation_w}) {
    s += std::to_string(v) + " ";
  }
  return s;
}

void expect_naive(const Problem& p, Form form, bool at_end) {
  const kernels::DepthwiseConv conv(p.weight.data(), p.g);
  const size_t outputs = static_cast<size_t>(p.g.batch * p.g.out_pixels() * p.g.channels);
  const GuardedBytes source(p.source, at_end), other(p.other, at_end), codes(outputs, at_end),
      floats(outputs * sizeof(float), at_end);
  Epilogue e = p.e;
  e.multiplier = p.multiplier.data();
  e.bias = p.bias.data();
  e.pixel_stride = p.g.channels;
  if (form == Form::kFloats) {
    e.floats = reinterpret_cast<float*>(floats.data());
  } else {
    e.codes = codes.data();
    if (form != Form::kCodes) e.other = other.data();
  }
  conv.run(p.g, source.data(), p.zero_point, e);
  for_each_output(p, [&](size_t at, int32_t sum, int64_t c) {
    if (form == Form::kFloats) {
      const float want = std::min(p.e.float_high, std::max(p.e.float_low, requantized(p, sum, c)));
      ASSERT_EQ(reinterpret_cast<const float*>(floats.data())[at], want) << text(p.g) << "at " << at;
    } else {
      ASSERT_EQ(codes.data()[at], naive_code(p, form, sum, c, at)) << text(p.g) << "at " << at;
    }
  });
}

class Depthwise : public EveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Depthwise, all_targets(), target_name);

TEST_P(Depthwise, EqualsTheNaiveSumOnRandomGeometries) {
  std::mt19937 random(11);
  for (int i = 0; i < random_cases(2000); ++i) {
    const Form form = static_cast<Form>(random() % 4);
    expect_naive(make_problem(form, Data::kRandom, random), form, random() % 2);
    if (HasFatalFailure()) return;
  }
}

/// Rows of every small number of pixels: tiles of several sizes share them.
TEST_P(Depthwise, EqualsTheNaiveSumForRowsOfEveryWidth) {
  std::mt19937 random(14);
  for (const auto& [kernel, stride] : {std::pair{3, 1}, {3, 2}, {5, 1}, {5, 2}, {7, 1}, {4, 1}}) {
    for (int64_t width = 1; width <= 40; ++width) {
      ConvGeometry g;
      g.channels = g.out_channels = g.groups = 16 + width % 3 * 8;
      g.kernel_h = g.kernel_w = kernel;
      g.stride_h = g.stride_w = stride;
      g.pad_h = g.pad_w = kernel / 2;
      g.height = 2;
      g.width = (width - 1) * stride + kernel - 2 * g.pad_w;
      for (const Form form : {Form::kCodes, static_cast<Form>(width % 4)}) {
        expect_naive(problem_of(g, form, Data::kRandom, random), form, width % 2 == 1);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(Depthwise, EqualsTheNaiveSumOnExtremes) {
  std::mt19937 random(12);
  for (int i = 0; i < random_cases(400); ++i) {
    const Form form = static_cast<Form>(random() % 4);
    expect_naive(make_problem(form, static_cast<Data>(1 + random() % 3), random), form, random() % 2);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Depthwise, ResultsFarBeyondTheCodesSaturate) {
  std::mt19937 random(13);
  for (int i = 0; i < 20; ++i) {
    Problem p = make_problem(Form::kCodes, Data::kRandom, random);
    for (float& m : p.multiplier) m *= 100000.0f;
    expect_naive(p, Form::kCodes, true);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Depthwise, WritesWithTheGivenDistanceBetweenPixels) {
  Problem p;
  std::mt19937 random(14);
  do {
    p = make_problem(Form::kCodes, Data::kRandom, random);
  } while (p.g.channels < 17 || p.g.kernel_h != 3);
  const kernels::DepthwiseConv conv(p.weight.data(), p.g);
  const int64_t stride = p.g.channels + 5;
  std::vector<uint8_t> codes(static_cast<size_t>(p.g.batch * p.g.out_pixels() * stride), 77);
  Epilogue e = p.e;
  e.multiplier = p.multiplier.data();
  e.bias = p.bias.data();
  e.codes = codes.data();
  e.pixel_stride = stride;
  conv.run(p.g, p.source.data(), p.zero_point, e);
  for_each_output(p, [&](size_t at, int32_t sum, int64_t c) {
    const size_t to = at / static_cast<size_t>(p.g.channels) * static_cast<size_t>(stride) + static_cast<size_t>(c);
    ASSERT_EQ(codes[to], naive_code(p, Form::kCodes, sum, c, at));
    if (c + 1 == p.g.channels) {
      ASSERT_EQ(codes[to + 1], 77);
    }
  });
}

TEST_P(Depthwise, ANanInTheBiasReachesAFloatResult) {
  std::mt19937 random(15);
  Problem p = make_problem(Form::kFloats, Data::kRandom, random);
  p.bias.assign(p.bias.size(), std::nanf(""));
  const kernels::DepthwiseConv conv(p.weight.data(), p.g);
  std::vector<float> floats(p.other.size());
  Epilogue e = p.e;
  e.multiplier = p.multiplier.data();
  e.bias = p.bias.data();
  e.floats = floats.data();
  e.pixel_stride = p.g.channels;
  conv.run(p.g, p.source.data(), p.zero_point, e);
  for (const float f : floats) ASSERT_TRUE(std::isnan(f));
}

TEST(DepthwiseSupport, OnlyWhatSumsExactly) {
  ConvGeometry g;
  g.channels = g.out_channels = 8;
  g.kernel_h = g.kernel_w = 7;
  EXPECT_TRUE(kernels::DepthwiseConv::supports(g));
  g.kernel_h = 70000;
  EXPECT_FALSE(kernels::DepthwiseConv::supports(g));
  g.kernel_h = 7;
  g.out_channels = 16;
  EXPECT_FALSE(kernels::DepthwiseConv::supports(g));
  const std::vector<int8_t> weight(8 * 49);
  EXPECT_THROW(kernels::DepthwiseConv(weight.data(), g), c10::Error);
}

}  // namespace
}  // namespace tsquant::testing
