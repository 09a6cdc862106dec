#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "numerics/codec.h"
#include "tsquant/format.h"
#include "tsquant/output_form.h"

namespace tsquant {

/// What a format leaves open.
struct CodeOptions {
  bool is_signed = true;             ///< integers
  std::vector<float> codebook = {};  ///< the levels of codebooks, ascending
};

/// One row of the table of formats.
struct FormatRow {
  Format format;
  FormatInfo info;
  std::unique_ptr<Codec> (*make_codec)(const FormatInfo& info, const CodeOptions& options);
  std::vector<OutputForm> forms;        ///< that can hold it with one scale per tensor or channel
  std::vector<OutputForm> group_forms;  ///< that can hold it with a scale per group
};

/// All formats, in the order of the enum.
const std::vector<FormatRow>& formats();
const FormatRow& row_of(Format format);
/// The row with this name; null when there is none.
const FormatRow* find_format(const std::string& name);

/// Codes of values that have been divided by their scale: bytes in the shape of `scaled`, int8 for signed integers and
/// uint8 for the rest. A value gets the code of the nearest level; `FormatInfo::ties` tells what happens half way.
/// Values beyond the levels, infinities too, get the outermost one. NaN gets the lowest code of integers, NaN where the
/// format has it, and the level nearest to zero elsewhere.
/// @throws Error kInvalidArgument when the options lack the codebook, or give one that the format cannot number
at::Tensor encode(const at::Tensor& scaled, Format format, const CodeOptions& options = {});

/// The levels of codes as float32; NaN for bytes that are no code.
at::Tensor decode(const at::Tensor& codes, Format format, const CodeOptions& options = {});

}  // namespace tsquant
