#pragma once

#include "tsquant/openvino_quantizer.h"

namespace tsquant::openvino {

/// One row of the table of modes (nncf weight_compression/constants.py, and this library's 2 and 3 bits).
struct ModeRow {
  CompressWeightsMode mode;
  Format format;
  QuantizationScheme scheme;
  int64_t group_size;  ///< default; -1: the whole channel
  BackupMode backup;   ///< default; modes of 8-bit integers have none of their own: all weights get the mode
};

const ModeRow& mode_row(CompressWeightsMode mode);

/// INT8_ASYM, INT8_SYM and INT8: one precision for all weights.
bool is_int8(CompressWeightsMode mode);

/// The spec of a weight without its axes and groups. @param codebook of kCodebook
QuantizationSpec primary_spec(CompressWeightsMode mode, const std::vector<float>& codebook);

/// The format and scheme of the other precision; nullopt: the weight stays in float.
c10::optional<QuantizationSpec> backup_spec(BackupMode mode);

/// How many values share a scale in a backup precision. @param primary group size of the primary precision
int64_t backup_group_size(BackupMode mode, int64_t primary);

/// @throws Error kInvalidArgument: kCodebook without levels; levels that are fewer than 2 or not strictly ascending
void check_codebook(const WeightsOnlyOptions& options);

/// @throws Error kInvalidArgument: a group size of 0 or below -1; another one than the format's; groups of a fixed size
///         that were to be adjusted; groups of 8-bit integers
void check_group_size(const WeightsOnlyOptions& options);

/// All of it.
void check_weights_only(const WeightsOnlyOptions& options);

}  // namespace tsquant::openvino
