#pragma once

#include <string>
#include <vector>

#include "compression/compressed_weight.h"
#include "compression/input_moments.h"
#include "compression/layer_error.h"
#include "compression/scale_search.h"

namespace tsquant {

/// Where the scales and zero points of a layer come from before its codes are refined.
enum class RefineStart {
  kSearched,  ///< search_scales, weighted by the diagonal of H
  kMinMax,    ///< round_to_nearest: the whole range
};

struct RefineOptions {
  /// What is tried. The best on held-out rows is taken; without these, the first of each.
  std::vector<RefineStart> starts = {RefineStart::kSearched, RefineStart::kMinMax};
  std::vector<double> dampings = {0.01, 0.1};  ///< of the mean of diag H, see DampingOptions
  bool act_order = true;                       ///< GPTQ: columns of large H_jj first
  int64_t block_size = 128;                    ///< columns of GPTQ and descent that are multiplied together
  int rounds = 2;                              ///< of coordinate descent and scale refit after GPTQ; 0: GPTQ alone
  int sweeps = 1;                              ///< of coordinate descent in each round
  bool refit = true;                           ///< scales, and zero points, in each round
  bool zero_points = true;                     ///< refit: also zero points
  c10::ScalarType scale_type = c10::kFloat;    ///< kFloat or kHalf: what the file will hold, see StoredScales
  ScaleSearchOptions search = {};              ///< of kSearched
  int64_t trial_rows = 256;  ///< outputs, evenly chosen, on which starts and dampings are tried; at least 1
};

/// What `refine` did to a layer.
struct RefineRecord {
  OutputError error;     ///< relative, on the moments given; before: round_to_nearest
  OutputError held_out;  ///< the same on the held-out rows; 0 without
  RefineStart start = RefineStart::kSearched;
  double damping = 0;        ///< that H got: the chosen one, or more where H was not positive definite with it
  int rounds = 0;            ///< that lowered the objective
  int64_t rows = 0;          ///< of calibration data
  int64_t dead_columns = 0;  ///< inputs that were always 0
  std::vector<double>
      objectives;  ///< with damped H, relative to the start of the list: after GPTQ, then after each step
  std::vector<std::string> notes;  ///< what was skipped or fell back, and why; empty: nothing
};

/// The best that is known for one layer without training: scales by search or from the range, GPTQ in order of H_jj
/// with these (ordered_gptq), and rounds of coordinate descent and scale refit, each of which only lowers
/// tr((W - Q) H (W - Q)^T). All with the same damped H. See ordered_gptq.h, coordinate_descent.h and scale_refit.h.
///
/// The result is never worse than round_to_nearest on the held-out rows, or, without these, on the given ones: where it
/// would be, round_to_nearest's is returned with a note.
/// @param weight of a linear layer, [outputs, inputs] or the other way round, floating point
/// @param spec as for round_to_nearest, with groups along the inputs or one scale per output; all formats
/// @param moments of the layer's inputs
/// @param held_out of rows that are not among these; may be null
/// @param record may be null
/// @throws Error kInvalidArgument as LayerMatrix, for moments of another number of channels, and for options out of
///         their limits; kCalibration for NaN or infinite values in the weight or the inputs
CompressedWeight refine(const at::Tensor& weight, const QuantizationSpec& spec, const InputMoments& moments,
                        const InputMoments* held_out, const RefineOptions& options = {},
                        RefineRecord* record = nullptr);

}  // namespace tsquant
