#include "kernels/narrow_conv.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace tsquant::kernels {
namespace {

constexpr int64_t kVector = 8, kHalfBlock = 2 * kVector, kBlock = 4 * kVector;
/// Products below which another thread costs more than it gives.
constexpr int64_t kParallelWork = 1 << 20;

/// The channel of a block that lane `lane` of vector `vector` computes: instructions that pack 32-bit results into
/// bytes take four of each vector in turn, within each half of a register.
int64_t channel_of(bool wide, int64_t vector, int64_t lane) {
  return lane / 4 * (wide ? kHalfBlock : kVector) + vector * 4 + lane % 4;
}

}  // namespace

bool NarrowConv::supports(const ConvGeometry& g) {
  return g.pointwise() && g.groups == 1 && g.channels % 8 == 0 && g.channels <= 24 && g.out_channels >= kBlock;
}

bool NarrowConv::supports(const Epilogue& e) {
  return e.codes != nullptr && e.other == nullptr && e.activation == Activation::kNone;
}

NarrowConv::NarrowConv(const NarrowKernel& kernel, const int8_t* weight, const ConvGeometry& g)
    : kernel_(kernel), channels_(g.channels) {
  int64_t weights = 0;
  for (int64_t first = 0; first < g.out_channels;) {
    const int64_t left = g.out_channels - first;
    const bool wide = left > kHalfBlock;
    const int64_t size = wide ? kBlock : kHalfBlock;
    blocks_.push_back({std::min(first, g.out_channels - size), wide, weights, static_cast<int64_t>(order_.size())});
    for (int64_t vector = 0; vector < size / kVector; ++vector) {
      for (int64_t lane = 0; lane < kVector; ++lane) {
        order_.push_back(blocks_.back().first_channel + channel_of(wide, vector, lane));
      }
    }
    weights += size * channels_;
    first += size;
  }
  weights_.resize(static_cast<size_t>(weights) * sizeof(int16_t));
  for (size_t i = 0; i < order_.size(); ++i) {
    const auto vector = static_cast<int64_t>(i) / kVector, lane = static_cast<int64_t>(i) % kVector;
    auto* to = weights_.as<int16_t>() + vector / 2 * 2 * kVector * channels_ + vector % 2 * 2 * kVector + lane * 2;
    for (int64_t k = 0; k < channels_; ++k) {
      to[k / 2 * 4 * kVector + k % 2] = weight[order_[i] * channels_ + k];
    }
  }
}

std::vector<float> NarrowConv::arranged(const float* values) const {
  std::vector<float> result(order_.size());
  for (size_t i = 0; i < order_.size(); ++i) result[i] = values[order_[i]];
  return result;
}

void NarrowConv::run(const ConvGeometry& g, const uint8_t* source, const Epilogue& e) const {
  const auto multiplier = arranged(e.multiplier), bias = arranged(e.bias);
  const auto loop = kernel_.run[channels_ / 8 - 1];
  const int64_t grain = std::max<int64_t>(1, kParallelWork / (channels_ * g.out_channels));
  at::parallel_for(0, g.batch * g.in_pixels(), grain, [&](int64_t begin, int64_t end) {
    loop({source + begin * channels_, blocks_, weights_.as<int16_t>(), multiplier.data(), bias.data(), e, begin,
          end - begin});
  });
}

}  // namespace tsquant::kernels
