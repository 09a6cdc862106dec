#pragma once

#include "compression/code_panels.h"
#include "compression/damped_factor.h"

namespace tsquant {

/// GPTQ with the parameters of the groups fixed before it starts: column by column, in the order of the factor, each
/// value gets its nearest code and the columns that are still to come take over its error, e = (w_j - Q_j) / U_jj,
/// w_k -= e U_jk. Because groups keep their columns ("static groups"), the order needs no index in the file. Columns
/// within a block change one another at once; what a block does to later ones is one product of matrices.
/// Source: GPTQ (arXiv:2210.17323) and AutoGPTQ's static_groups. Needs outputs * inputs^2 / 2 multiplications.
///
/// All formats of the table. The codes of `start` do not matter.
/// @param weight [outputs, inputs]
/// @param start whose scales and zero points are taken, by search_scales or round_to_nearest, groups along axis 1 or
///        one scale per output
/// @param block_size columns, at least 1
/// @throws Error kInvalidArgument as CodePanels, for another block size, and a factor of another size
CompressedWeight ordered_gptq(const at::Tensor& weight, const CompressedWeight& start, const DampedFactor& factor,
                              int64_t block_size = 128);

/// The same for one panel.
void gptq_panel(CodePanel& panel, const DampedFactor& factor, const GroupCodec& codec, int64_t block_size);

/// @throws Error kInvalidArgument below 1
void check_block_size(int64_t block_size);

}  // namespace tsquant
