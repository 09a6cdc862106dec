#include <ATen/ATen.h>

#include "graph/constant_expressions.h"
#include "graph/params.h"
#include "lowering/compressed/decompression_chain.h"
#include "numerics/formats.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

bool is_op(const Value* value, const char* kind) { return value->node()->kind() == c10::Symbol::fromQualString(kind); }

/// The type that aten::to gives; nullopt for other nodes.
c10::optional<c10::ScalarType> type_of_cast(const Model& model, const Value* value) {
  if (!is_op(value, "aten::to") || value->node()->inputs().size() != 5) return c10::nullopt;
  const auto type = constant_of(model, value->node()->input(1));
  if (!type || !type->isInt()) return c10::nullopt;
  return static_cast<c10::ScalarType>(type->toInt());
}

/// What is read at the end of a chain of first inputs; null when that is no parameter.
const Value* read_value(const Model& model, const Value* value) {
  constexpr int kLongestChain = 32;
  for (int step = 0; step < kLongestChain; ++step) {
    if (param_of(model, value)) return value;
    if (value->node()->inputs().empty()) return nullptr;
    value = value->node()->input(0);
  }
  return nullptr;
}

/// Whether the operators between here and the stored codes take half of the levels away.
bool subtracts_half(const Model& model, const Value* value) {
  if (is_op(value, "aten::reshape")) value = value->node()->input(0);
  if (!is_op(value, "aten::sub")) return false;
  const auto half = constant_of(model, value->node()->input(1));
  return half && half->isInt();
}

/// How many bits the codes have that these operators unpack; 0 when they are none of ours.
int unpacked_bits(const Model& model, const Value* value) {
  if (param_of(model, value)) return 8;
  const Node* node = value->node();
  if (node->inputs().empty()) return 0;
  if (is_op(value, "aten::add")) return unpacked_bits(model, node->input(0)) + unpacked_bits(model, node->input(1));
  if (!is_op(value, "aten::stack")) return unpacked_bits(model, node->input(0));
  const auto parts = static_cast<int>(node->input(0)->node()->inputs().size());
  return parts > 0 ? 8 / parts : 0;
}

/// The format whose levels the table holds; a codebook when no other one does.
Format format_of_table(const at::Tensor& table) {
  const int bits = table.numel() <= 16 ? 4 : 8;
  for (const FormatRow& row : formats()) {
    if (row.info.integer || has_codebook(row.format) || row.info.bits != bits) continue;
    const auto codes = at::arange(int64_t{1} << bits, at::kByte);
    if (at::equal(at::nan_to_num(decode(codes, row.format)), table)) return row.format;
  }
  return bits == 4 ? Format::kCodebook4 : Format::kCodebook8;
}

/// The shape that aten::reshape gives. @return whether it is fixed
bool read_shape(const Model& model, const Value* value, std::vector<int64_t>& shape) {
  const auto constant = constant_of(model, value->node()->input(1));
  if (!constant || !constant->isIntList()) return false;
  shape = constant->toIntVector();
  return true;
}

/// What the operators seem to say; whether they compute that is for the caller to find out.
c10::optional<Decompression> read_parts(const Model& model, const Value* weight) {
  Decompression found;
  StoredWeight& stored = found.weight;
  const auto dtype = type_of_cast(model, weight);
  if (!dtype || !c10::isFloatingType(*dtype)) return c10::nullopt;
  stored.dtype = *dtype;
  const Value* x = weight->node()->input(0);
  if (is_op(x, "aten::reshape")) {
    if (!read_shape(model, x, stored.shape)) return c10::nullopt;
    x = x->node()->input(0);
  }
  if (!is_op(x, "aten::mul")) return c10::nullopt;
  found.scale = x->node()->input(1);
  const auto scale = param_of(model, found.scale);
  if (!scale || !scale->tensor.is_floating_point()) return c10::nullopt;
  stored.scale = scale->tensor;
  x = x->node()->input(0);
  if (is_op(x, "aten::sub")) {
    found.zero_point = read_value(model, x->node()->input(1));
    if (!found.zero_point) return c10::nullopt;
    stored.zero_point = param_of(model, found.zero_point)->tensor;
    if (stored.zero_point.scalar_type() != c10::kByte) return c10::nullopt;
    x = x->node()->input(0);
  }
  if (is_op(x, "aten::take")) {
    found.table = x->node()->input(0);
    const auto table = param_of(model, found.table);
    if (!table || table->tensor.scalar_type() != c10::kFloat || table->tensor.dim() != 1) return c10::nullopt;
    stored.table = table->tensor;
    x = x->node()->input(1);
  }
  found.codes = read_value(model, x);
  if (!type_of_cast(model, x) || !found.codes) return c10::nullopt;
  stored.codes = param_of(model, found.codes)->tensor;
  if (c10::isFloatingType(stored.codes.scalar_type()) || stored.codes.dim() == 0) return c10::nullopt;
  const Value* integers = x->node()->input(0);
  stored.groups = stored.codes.sizes().vec();
  if (is_op(integers, "aten::reshape") && !read_shape(model, integers, stored.groups)) return c10::nullopt;
  if (stored.shape.empty()) stored.shape = stored.groups;
  const int bits = unpacked_bits(model, integers);
  if (bits < 2 || bits > 8 || stored.codes.dim() != static_cast<int64_t>(stored.shape.size())) return c10::nullopt;
  const bool table = stored.table.defined();
  stored.format = table ? format_of_table(stored.table) : integer_format(bits);
  stored.is_signed = !table && (bits == 8 ? stored.codes.scalar_type() == c10::kChar : subtracts_half(model, integers));
  return found;
}

}  // namespace

c10::optional<Decompression> read_decompression(const Model& model, const Value* weight, bool check) {
  const auto found = read_parts(model, weight);
  if (!found || !check) return found;
  try {
    // Operators that only look like ours compute something else.
    const auto value = compute_constant(model, const_cast<Value*>(weight));
    const auto expected = decompressed_value(found->weight);
    const bool same_type = value.sizes() == expected.sizes() && value.scalar_type() == expected.scalar_type();
    if (same_type && at::equal(value, expected)) return found;
  } catch (const std::exception&) {
    // Sizes that do not fit are no decompression either.
  }
  return c10::nullopt;
}

}  // namespace tsquant
