#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/conv_geometry.h"
#include "kernels/gemm_table.h"

namespace tsquant::kernels {

/// The first and the last element at which runs of an image begin; none when low > high.
struct ElementRange {
  int64_t low = 0, high = 0;
};

/// What a PackedConv needs to know about one input shape; made once per shape.
struct ConvShape {
  /// Output pixels that are computed together for all channels, so that their input stays in the second-level cache.
  struct Unit {
    int64_t first_image, images, first_pixel, pixels;
    ElementRange reach;  ///< with a table of offsets
  };
  struct PhaseShape {
    OutputGrid grid;
    std::shared_ptr<const OffsetTable> offsets;  ///< null: filled per unit
    std::vector<int32_t> places;
    std::vector<Unit> units;
  };
  ConvGeometry geometry;
  int64_t image_elements = 0;  ///< of the source that the tiles read
  std::vector<PhaseShape> phases;
  int64_t tiles = 0, products = 0;
};

/// A convolution or matrix product of unsigned codes with signed weights, packed for one row of the kernel table. Any
/// number of groups; groups of few channels are merged into blocks that fill a vector, with zeros between them.
class PackedConv {
 public:
  /// @param weight dense, see ConvGeometry::weight_index
  /// @param geometry of any input: its kernel, stride, dilation, padding and channel fields are used
  PackedConv(const GemmRow& row, const int8_t* weight, const ConvGeometry& geometry, const std::vector<Phase>& phases);

  const GemmRow& row() const { return row_; }

  /// @param geometry with the kernel of the constructor. Its images must have less than 2^31 elements.
  ConvShape shape(const ConvGeometry& geometry) const;

  /// Elements of one image of the source, copied borders included.
  int64_t image_elements(const ConvGeometry& geometry) const;

  /// @param source channels-last codes, @param epilogues one per phase
  void run(const ConvShape& shape, const uint8_t* source, uint8_t input_zero_point,
           const std::vector<Epilogue>& epilogues) const;

 private:
  /// Up to four vectors of output channels that read the same input channels.
  struct Panel {
    int64_t first_channel, channels, source_channel, run, steps;
    int vectors;
  };
  struct PackedPhase {
    Phase phase;
    int64_t taps = 0;
    std::vector<int64_t> offsets, bytes;  ///< of the panels' weights
    std::vector<int32_t> starts;          ///< per channel: what sums begin with, with crossed_
  };
  struct Job;

  void make_panels(const ConvGeometry& g);
  void pack_panel(const int8_t* weight, const ConvGeometry& g, const Phase& phase, const Panel& panel, int8_t* packed);
  void prepare_unit(const Job& job, size_t phase, const ConvShape::Unit& unit, Tile& tile) const;
  void prepare_starts(const Job& job, const ConvShape::Unit& unit, Tile tile) const;
  const void* copy_unit(const Job& job, const ConvShape::Unit& unit, int64_t low, int64_t high) const;
  void copy_lines(const Job& job, const uint8_t* image, int64_t first_line, int64_t last_line, std::byte* out) const;
  void run_range(const Job& job, int64_t begin, int64_t end) const;
  void run_panel(const Job& job, size_t phase, const ConvShape::Unit& unit, size_t panel, int64_t begin, int64_t end,
                 Tile tile) const;
  bool crosses(const ConvShape::Unit& unit) const;
  int64_t tiles_per_image(const Panel& panel, const ConvShape::Unit& unit) const;
  int64_t group_pixels(const Panel& panel, const ConvShape::Unit& unit) const;
  /// Values to which runs are padded.
  int64_t run_step() const { return crossed_ != nullptr ? kCrossedStep : row_.step; }
  int64_t element_bytes() const { return row_.wide ? 2 : 1; }

  const GemmRow& row_;
  const CrossedKernel* crossed_ = nullptr;  ///< computes tiles of units that crosses(); else row_.run does
  SourceLayout layout_;
  bool in_place_ = true;
  int64_t longest_run_ = 0;  ///< rounded to steps
  std::vector<Panel> panels_;
  std::vector<PackedPhase> phases_;
  AlignedBuffer weights_;
};

}  // namespace tsquant::kernels
