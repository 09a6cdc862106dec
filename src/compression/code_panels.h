#pragma once

#include <functional>
#include <string>

#include "compression/compressed_weight.h"
#include "compression/group_codec.h"

namespace tsquant {

/// Some rows of a weight W [outputs, inputs] and of its codes, transposed, so that the rows' values in one column are
/// neighbours. The quantized Q is levels * scales.
struct CodePanel {
  int64_t index = 0, first = 0, rows = 0;
  int64_t group_size = 0;
  at::Tensor weight;       ///< float32 [inputs, rows]
  at::Tensor codes;        ///< uint8 [inputs, rows]; those of signed integers are the bytes of int8
  at::Tensor levels;       ///< float32 [inputs, rows]: what codes stand for, less the zero point
  at::Tensor scales;       ///< float32 [groups, rows], the tensor's own factor included
  at::Tensor zero_points;  ///< int64 [groups, rows]
  /// (H (W - Q)^T), float32 [inputs, rows]; undefined until `measure`. Steps keep it up to date.
  at::Tensor products;

  int64_t inputs() const { return weight.size(0); }
  int64_t groups() const { return scales.size(0); }
  /// Factors of levels [groups, rows] as [inputs, rows].
  at::Tensor by_input(const at::Tensor& of_groups) const;
  at::Tensor values() const { return levels * by_input(scales); }
  /// Computes `products` anew. @param hessian float32 [inputs, inputs]
  void measure(const at::Tensor& hessian);
  /// (W - Q) H (W - Q)^T of each row, float64 [rows]; needs `products`.
  at::Tensor errors() const;
  /// Of a measured panel; the weight is shared.
  CodePanel copy() const;
};

/// What a step has made of the objective tr((W - Q) H (W - Q)^T).
struct StepErrors {
  double before = 0, after = 0;
  int64_t rows_kept = 0;  ///< rows that are as they were, because the step found nothing better
};

/// Ends a step: rows whose error did not fall become again what they were.
/// @param panel after the step, `products` up to date
/// @param before a copy of the panel, and its errors
StepErrors keep_better_rows(CodePanel& panel, const CodePanel& before, const at::Tensor& errors_before);

/// A compressed weight, panel by panel.
class CodePanels {
 public:
  /// @param weight [outputs, inputs], floating point
  /// @param start of the same shape, with groups along axis 1 or one scale per output
  /// @param algorithm its name, for messages
  /// @throws Error kInvalidArgument for anything else
  CodePanels(const at::Tensor& weight, const CompressedWeight& start, const std::string& algorithm);

  const GroupCodec& codec() const { return codec_; }
  int64_t inputs() const { return weight_.size(1); }
  int64_t group_size() const { return group_size_; }
  int64_t size() const;
  /// Lets `work` change codes, levels, scales and zero points of all panels, several at a time (for_each_panel).
  void for_each(const std::function<void(CodePanel&)>& work);
  /// The same for steps that measure; sums are those of all rows, always in the same order.
  StepErrors for_each_step(const std::function<StepErrors(CodePanel&)>& work);
  CompressedWeight result() const;

 private:
  CodePanel panel(int64_t index) const;
  void store(const CodePanel& panel);

  at::Tensor weight_;
  CompressedWeight start_;
  GroupCodec codec_;
  int64_t group_size_;
  at::Tensor codes_, scales_, zero_points_;  ///< uint8 [outputs, inputs]; [outputs, groups]
};

/// A step over all panels of a weight: `step` is given each panel with its products measured, and the codec.
/// @param algorithm its name, for messages
/// @param errors filled with the sums; may be null
/// @throws Error kInvalidArgument as CodePanels and check_hessian
CompressedWeight improve_panels(const at::Tensor& weight, const CompressedWeight& start, const at::Tensor& hessian,
                                const std::string& algorithm, StepErrors* errors,
                                const std::function<StepErrors(CodePanel& panel, const GroupCodec& codec)>& step);

}  // namespace tsquant
