#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/conv_geometry.h"
#include "kernels/vnni_tile.h"

namespace tsquant::kernels {

/// A convolution or matrix product of unsigned codes with signed weights, written for AVX512-VNNI. The weights are
/// packed once; the input shape may change from call to call.
class VnniConv {
 public:
  /// @param weight [out_channels][channels][kernel_h][kernel_w], dense
  /// @param geometry of any input; its kernel, dilation and channel fields are used
  VnniConv(const int8_t* weight, const ConvGeometry& geometry);

  /// @param source channels-last codes, @param epilogue arrays padded to padded_channels()
  void run(const ConvGeometry& geometry, const OffsetTable& offsets, const uint8_t* source, uint8_t input_zero_point,
           const Epilogue& epilogue) const;

  int64_t padded_channels() const { return padded_channels_; }

 private:
  /// Where the weights lie that were used after these ones in the last run: the last group of a convolution fetches
  /// the beginning of the next convolution's weights, which halves the time that deep layers wait for memory.
  struct Successor {
    std::atomic<const int8_t*> weights{nullptr};
    std::atomic<int64_t> bytes{0};
  };
  struct Group {
    int64_t first_channel, channels, offset, bytes;
    int vectors;
  };
  struct Job;

  void pack(const int8_t* weight, const ConvGeometry& g);
  const uint8_t* prepare_source(Job& job, const uint8_t* source) const;
  void run_range(const Job& job, int64_t begin, int64_t end) const;
  void link_from_previous() const;

  int64_t out_channels_ = 0, padded_channels_ = 0, taps_ = 0, steps_ = 0;
  std::vector<Group> groups_;
  AlignedBuffer weights_;
  int64_t weight_bytes_ = 0;
  std::shared_ptr<Successor> successor_ = std::make_shared<Successor>();
};

}  // namespace tsquant::kernels
