#pragma once

#include <c10/util/Optional.h>

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
  /// What is tried, each with each. The best on held-out rows is taken; without these, the first of both.
  std::vector<RefineStart> starts = {RefineStart::kSearched, RefineStart::kMinMax};
  std::vector<double> dampings = {0.01, 0.1};  ///< of the mean of diag H, see DampingOptions
  /// From this many rows of calibration data for each input on, dampings after the first are not tried: they help where
  /// H is not well known, and each costs a decomposition of H.
  double enough_rows = 8;
  bool act_order = true;     ///< GPTQ: columns of large H_jj first
  int64_t block_size = 128;  ///< columns of GPTQ and descent that are multiplied together
  int rounds = 2;            ///< of descent, groups and refit after GPTQ; 0: GPTQ alone
  int sweeps = 1;            ///< of coordinate_descent in each round, at least 1
  /// Whether each round has a sweep of group_descent, which moves scales and zero points together with codes. Unset:
  /// for formats of at most 3 bits; with more it gains next to nothing.
  c10::optional<bool> groups = c10::nullopt;
  bool zero_points = true;                    ///< groups: also zero points
  bool refit = true;                          ///< whether each round ends with refit_scales
  c10::ScalarType scale_type = c10::kFloat;   ///< kFloat or kHalf: what the file will hold, see StoredScales
  ScaleSearchOptions search = {/*steps=*/8};  ///< of kSearched; a coarse one: refits do the rest
  /// Whether held-out rows count with the others once start and damping are chosen, where there are not `enough_rows`:
  /// more make a better H. Held-out errors, and whether the result is better than round_to_nearest, are then those of
  /// the trial before.
  bool all_rows = false;
  int64_t trial_rows = 256;  ///< outputs, evenly spread, on which starts and dampings are tried and held-out errors are
                             ///< measured; at least 1
};

/// What `refine` did to a layer. Errors are relative (relative_output_error); before: round_to_nearest.
struct RefineRecord {
  OutputError error;     ///< on the moments given
  OutputError held_out;  ///< on the held-out rows, for `trial_rows` outputs; 0 without
  RefineStart start = RefineStart::kSearched;
  double damping = 0;        ///< the chosen one, or more where H was not positive definite with it
  int rounds = 0;            ///< that lowered the objective
  int64_t rows = 0;          ///< of calibration data
  int64_t dead_columns = 0;  ///< inputs that were always 0
  /// tr((W - Q) H (W - Q)^T) / tr(W H W^T) with damped H in the first: after GPTQ and after each step of the rounds.
  std::vector<double> objectives;
  std::vector<std::string> notes;  ///< what was skipped or fell back, and why; empty: nothing
};

/// The best that is known for one layer without training: scales by search or from the range, GPTQ in order of H_jj
/// with these, and rounds of coordinate descent, group descent and scale refit, each of which only lowers
/// tr((W - Q) H (W - Q)^T). All with the same damped H. See ordered_gptq.h, coordinate_descent.h, group_descent.h and
/// scale_refit.h.
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
