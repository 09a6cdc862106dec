#include "cli/demo_data.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>

#include "io/write_module.h"

namespace tsquant::cli {

namespace {

constexpr int kSize = 24, kRows = 7, kColumns = 5;

/// Five by seven dots for each digit.
const std::array<std::array<const char*, kRows>, 10> kFont = {{
    {" ### ", "#   #", "#  ##", "# # #", "##  #", "#   #", " ### "},
    {"  #  ", " ##  ", "  #  ", "  #  ", "  #  ", "  #  ", " ### "},
    {" ### ", "#   #", "    #", "   # ", "  #  ", " #   ", "#####"},
    {"#####", "   # ", "  #  ", "   # ", "    #", "#   #", " ### "},
    {"   # ", "  ## ", " # # ", "#  # ", "#####", "   # ", "   # "},
    {"#####", "#    ", "#### ", "    #", "    #", "#   #", " ### "},
    {"  ## ", " #   ", "#    ", "#### ", "#   #", "#   #", " ### "},
    {"#####", "    #", "   # ", "  #  ", " #   ", " #   ", " #   "},
    {" ### ", "#   #", "#   #", " ### ", "#   #", "#   #", " ### "},
    {" ### ", "#   #", "#   #", " ####", "    #", "   # ", " ##  "},
}};

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1.0p-53;
  }
  /// Sum of uniforms (Irwin-Hall): the same numbers with every standard library.
  double normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform(0, 1);
    return sum;
  }
  int64_t below(int64_t count) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(count)); }

 private:
  std::mt19937_64 engine_;
};

double dot_at(int digit, int row, int column) {
  if (row < 0 || row >= kRows || column < 0 || column >= kColumns) return 0;
  return kFont[static_cast<size_t>(digit)][static_cast<size_t>(row)][column] == '#' ? 1 : 0;
}

/// Bilinear sample of the dots at a point whose origin is the middle of the digit.
double ink(int digit, double x, double y) {
  const double column = x + (kColumns - 1) / 2.0, row = y + (kRows - 1) / 2.0;
  const int c = static_cast<int>(std::floor(column)), r = static_cast<int>(std::floor(row));
  const double a = column - c, b = row - r;
  return (1 - b) * ((1 - a) * dot_at(digit, r, c) + a * dot_at(digit, r, c + 1)) +
         b * ((1 - a) * dot_at(digit, r + 1, c) + a * dot_at(digit, r + 1, c + 1));
}

void draw(int digit, Random& random, uint8_t* pixels) {
  const double angle = random.uniform(-0.45, 0.45), shear = random.uniform(-0.35, 0.35);
  const double width = random.uniform(1.7, 2.9), height = random.uniform(1.7, 2.8);
  const double center_x = kSize / 2.0 + random.uniform(-3, 3), center_y = kSize / 2.0 + random.uniform(-2.5, 2.5);
  const double paper = random.uniform(0.1, 0.4), contrast = random.uniform(0.25, 0.6),
               noise = random.uniform(0.04, 0.16);
  const double line_angle = random.uniform(0, M_PI), line_offset = random.uniform(-8, 8);
  for (int row = 0; row < kSize; ++row) {
    for (int column = 0; column < kSize; ++column) {
      const double dx = column - center_x, dy = row - center_y;
      const double u = std::cos(angle) * dx + std::sin(angle) * dy, v = -std::sin(angle) * dx + std::cos(angle) * dy;
      double value = ink(digit, (u + shear * v) / width, v / height);
      const double distance =
          std::cos(line_angle) * (column - kSize / 2.0) + std::sin(line_angle) * (row - kSize / 2.0);
      value = std::max(value, std::max(0.0, 1.0 - std::abs(distance - line_offset)));
      value = paper + contrast * value + noise * random.normal();
      pixels[row * kSize + column] = static_cast<uint8_t>(std::lround(255 * std::min(1.0, std::max(0.0, value))));
    }
  }
}

}  // namespace

DigitData draw_digits(int64_t count, uint64_t seed) {
  Random random(seed);
  DigitData data{at::empty({count, 1, kSize, kSize}, c10::kByte), at::empty({count}, c10::kLong)};
  for (int64_t i = 0; i < count; ++i) {
    const auto digit = static_cast<int>(random.below(10));
    data.labels.data_ptr<int64_t>()[i] = digit;
    draw(digit, random, data.images.data_ptr<uint8_t>() + i * kSize * kSize);
  }
  return data;
}

void save_digits(const DigitData& data, const std::string& path) {
  torch::jit::Module module("Digits");
  module.register_buffer("images", data.images);
  module.register_buffer("labels", data.labels);
  save_module(path, "data", module);
}

}  // namespace tsquant::cli
