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

/// The tensor that is read at the end of a chain of first inputs.
c10::optional<at::Tensor> stored_tensor(const Model& model, const Value* value) {
  for (int step = 0; step < 32; ++step) {
    if (const auto parameter = param_of(model, value)) return parameter->tensor;
    if (value->node()->inputs().empty()) return c10::nullopt;
    value = value->node()->input(0);
  }
  return c10::nullopt;
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
    const bool own = row.format == Format::kCodebook4 || row.format == Format::kCodebook8;
    if (row.info.integer || own || row.info.bits != bits) continue;
    const auto codes = at::arange(int64_t{1} << bits, at::kByte);
    if (at::equal(at::nan_to_num(decode(codes, row.format)), table)) return row.format;
  }
  return bits == 4 ? Format::kCodebook4 : Format::kCodebook8;
}

/// What the operators seem to say; whether they compute that is for the caller to find out.
c10::optional<StoredWeight> read_parts(const Model& model, const Value* weight) {
  StoredWeight stored;
  const auto dtype = type_of_cast(model, weight);
  if (!dtype || !c10::isFloatingType(*dtype)) return c10::nullopt;
  stored.dtype = *dtype;
  const Value* x = weight->node()->input(0);
  if (is_op(x, "aten::reshape")) {
    const auto shape = constant_of(model, x->node()->input(1));
    if (!shape || !shape->isIntList()) return c10::nullopt;
    stored.shape = shape->toIntVector();
    x = x->node()->input(0);
  }
  if (!is_op(x, "aten::mul")) return c10::nullopt;
  const auto scale = param_of(model, x->node()->input(1));
  if (!scale || !scale->tensor.is_floating_point()) return c10::nullopt;
  stored.scale = scale->tensor;
  x = x->node()->input(0);
  if (is_op(x, "aten::sub")) {
    const auto zero_point = stored_tensor(model, x->node()->input(1));
    if (!zero_point || zero_point->scalar_type() != c10::kByte) return c10::nullopt;
    stored.zero_point = *zero_point;
    x = x->node()->input(0);
  }
  if (is_op(x, "aten::take")) {
    const auto table = param_of(model, x->node()->input(0));
    if (!table || table->tensor.scalar_type() != c10::kFloat || table->tensor.dim() != 1) return c10::nullopt;
    stored.table = table->tensor;
    x = x->node()->input(1);
  }
  const auto type = type_of_cast(model, x);
  const auto codes = stored_tensor(model, x);
  if (!type || !codes || c10::isFloatingType(codes->scalar_type()) || codes->dim() == 0) return c10::nullopt;
  stored.codes = *codes;
  const Value* integers = x->node()->input(0);
  stored.groups = codes->sizes().vec();
  if (is_op(integers, "aten::reshape")) {
    const auto shape = constant_of(model, integers->node()->input(1));
    if (!shape || !shape->isIntList()) return c10::nullopt;
    stored.groups = shape->toIntVector();
  }
  if (stored.shape.empty()) stored.shape = stored.groups;
  const int bits = unpacked_bits(model, integers);
  if (bits < 2 || bits > 8 || stored.codes.dim() != static_cast<int64_t>(stored.shape.size())) return c10::nullopt;
  const bool table = stored.table.defined();
  stored.format = table ? format_of_table(stored.table) : integer_format(bits);
  stored.is_signed = !table && (bits == 8 ? codes->scalar_type() == c10::kChar : subtracts_half(model, integers));
  return stored;
}

}  // namespace

c10::optional<StoredWeight> read_decompression(const Model& model, const Value* weight) {
  const auto stored = read_parts(model, weight);
  if (!stored) return c10::nullopt;
  try {
    // Operators that only look like ours compute something else.
    const auto value = compute_constant(model, const_cast<Value*>(weight));
    const auto expected = decompressed_value(*stored);
    if (value.sizes() == expected.sizes() && value.scalar_type() == expected.scalar_type() &&
        at::equal(value, expected)) {
      return stored;
    }
  } catch (const std::exception&) {
    // Sizes that do not fit are no decompression either.
  }
  return c10::nullopt;
}

}  // namespace tsquant
