#include <ATen/ATen.h>

#include <algorithm>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/shared_weight.h"
#include "lowering/engines/lowering_context.h"
#include "lowering/float_zero_points.h"
#include "numerics/pack.h"

// Embeddings read rows of codes and dequantize those alone, with plain operators: exact, the same on every processor,
// and without a library. Of LibTorch's own kernels, embedding_byte keeps -zero_point * scale in place of the zero point
// and embedding_4bit both in float16, which changes values.
namespace tsquant {

using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

namespace {

constexpr const char* kKernel = "rows of codes (plain operators)";
constexpr size_t kPadding = 8;  ///< aten::embedding_bag's argument padding_idx

/// Writes the operators that read rows of one table.
class RowReader {
 public:
  RowReader(LoweringContext& context, const FloatZeroTable& table)
      : context_(context), table_(table), is_packed_(table.tensor.max().item<int64_t>() < 16) {}

  /// The rows of `indices` as floats. @param named the operator whose name the last one takes over; null: none
  Value* read(Node* position, Value* indices, const Node* named) {
    Value* rows = gather(position, table_.codes, indices);
    readers_.emplace_back(rows->node(), 0);
    if (is_packed_) rows = unpack(position, rows);
    const std::vector<Value*> cast = [&] {
      const torch::jit::WithInsertPoint guard(position);
      return float_cast_arguments(context_.graph());
    }();
    std::vector<Value*> arguments{rows};
    arguments.insert(arguments.end(), cast.begin(), cast.end());
    Value* levels = context_.insert(position, "aten::to", arguments, nullptr);
    Value* zero_points = gather(position, context_.constant(position, table_.zero_points), indices);
    Value* centred =
        context_.insert(position, "aten::sub", {levels, zero_points, context_.constant(position, int64_t{1})}, nullptr);
    Value* scales = gather(position, context_.constant(position, table_.scales), indices);
    return context_.insert(position, "aten::mul", {centred, scales}, named);
  }

  /// To be called when nothing else reads the table.
  void store() const {
    if (is_packed_) replace_parameter(context_.model(), readers_, pack(table_.tensor, Format::kInt4));
  }

 private:
  Value* gather(Node* position, Value* from, Value* indices) {
    Value* no = context_.constant(position, false);
    return context_.insert(position, "aten::embedding",
                           {from, indices, context_.constant(position, int64_t{-1}), no, no}, nullptr);
  }

  /// [..., bytes] -> [..., codes]
  Value* unpack(Node* position, Value* bytes) {
    const auto integer = [&](int64_t value) { return context_.constant(position, value); };
    Value* low = context_.insert(position, "aten::bitwise_and", {bytes, integer(15)}, nullptr);
    Value* high = context_.insert(position, "aten::bitwise_right_shift", {bytes, integer(4)}, nullptr);
    Node* list = context_.graph().createList(c10::TensorType::get(), {low, high});
    list->insertBefore(position);
    Value* pairs = context_.insert(position, "aten::stack", {list->output(), integer(-1)}, nullptr);
    Value* codes = context_.insert(position, "aten::flatten", {pairs, integer(-2), integer(-1)}, nullptr);
    const int64_t size = table_.tensor.size(1);
    if (size % 2 == 0) return codes;
    return context_.insert(position, "aten::slice", {codes, integer(-1), integer(0), integer(size), integer(1)},
                           nullptr);
  }

  LoweringContext& context_;
  const FloatZeroTable& table_;
  bool is_packed_;  ///< all codes are below 16 and kept two in a byte
  std::vector<ParameterUse> readers_;
};

bool is_embedding(const Use& use) { return is_kind(use.user, "aten::embedding") && use.offset == 0; }

/// The row of the table that a bag leaves out; none: it takes all. @return false: it is only known when the bag runs
bool find_padding(const LoweringContext& context, const Node* bag, int64_t rows, c10::optional<int64_t>& padding) {
  if (bag->inputs().size() <= kPadding) return true;
  const auto value = constant_of(context.model(), bag->input(kPadding));
  if (!value || !(value->isNone() || value->isInt())) return false;
  if (value->isInt()) padding = value->toInt() < 0 ? value->toInt() + rows : value->toInt();
  return true;
}

/// A bag whose only result that is read is the sum, mean or maximum.
bool is_bag(const LoweringContext& context, const Use& use, int64_t rows) {
  const Node* bag = use.user;
  if (!is_kind(bag, "aten::embedding_bag") || use.offset != 0) return false;
  for (size_t i = 1; i < bag->outputs().size(); ++i) {
    if (bag->output(i)->hasUses()) return false;
  }
  c10::optional<int64_t> padding;
  return find_padding(context, bag, rows, padding);
}

/// %y = aten::embedding(%weight, %indices, ...)   ->   %y = (rows of codes - rows of zero points) * rows of scales
void lower_embedding(LoweringContext& context, RowReader& reader, Node* node) {
  Value* result = reader.read(node, node->input(1), node);
  result->copyMetadata(node->output());
  context.stands_for(result, node->output());
  context.record(result->node(), kKernel);
  node->output()->replaceAllUsesWith(result);
  context.destroy(node);
}

/// 0 to the number of indices - 1.
Value* count_from_zero(LoweringContext& context, Node* position, Value* indices) {
  Value* none = context.constant(position, {});
  Value* one = context.constant(position, int64_t{1});
  Value* ones = context.insert(position, "aten::ones_like", {indices, none, none, none, none, none}, nullptr);
  Value* counted =
      context.insert(position, "aten::cumsum", {ones, context.constant(position, int64_t{0}), none}, nullptr);
  return context.insert(position, "aten::sub", {counted, one, one}, nullptr);
}

/// %y = aten::embedding_bag(%weight, %indices, %offsets, ...)
///   ->
/// %y = aten::embedding_bag(rows of %indices, 0 to their number - 1, %offsets, ...)
/// The row that bags leave out is read once more, after the others: its number stands in for all of its indices.
void lower_bag(LoweringContext& context, RowReader& reader, Node* node, int64_t table_rows) {
  const auto constant = [&](const c10::IValue& value) { return context.constant(node, value); };
  c10::optional<int64_t> padding;
  find_padding(context, node, table_rows, padding);
  Value* indices = node->input(1);
  Value* numbers = count_from_zero(context, node, indices);
  Value* read = indices;
  if (padding) {
    Value* is_padding = context.insert(node, "aten::eq", {indices, constant(*padding)}, nullptr);
    Value* count = context.insert(node, "aten::size", {indices, constant(int64_t{0})}, nullptr);
    count->setType(c10::IntType::get());
    numbers = context.insert(node, "aten::masked_fill", {numbers, is_padding, count}, nullptr);
    Value* last = context.insert(node, "aten::type_as", {constant(at::tensor({*padding})), indices}, nullptr);
    Node* list = context.graph().createList(c10::TensorType::get(), {indices, last});
    list->insertBefore(node);
    read = context.insert(node, "aten::cat", {list->output(), constant(int64_t{0})}, nullptr);
    node->replaceInput(kPadding, constant(int64_t{-1}));
  }
  node->replaceInput(0, reader.read(node, read, nullptr));
  node->replaceInput(1, context.insert(node, "aten::type_as", {numbers, indices}, nullptr));
  context.record(node, kKernel);
}

bool lower_table(LoweringContext& context, const FloatZeroTable& table) {
  const auto uses = table.last->output()->uses();
  const bool by_row = table.axis == 0 && table.tensor.dim() == 2 && table.tensor.numel() > 0;
  const bool all = by_row && std::all_of(uses.begin(), uses.end(), [&](const Use& use) {
                     return is_embedding(use) || is_bag(context, use, table.tensor.size(0));
                   });
  if (!all) {
    for (const Use& use : uses) context.refuse(use.user, "its table has readers that need all of its rows as floats");
    return false;
  }
  RowReader reader(context, table);
  for (const Use& use : uses) {
    if (is_embedding(use)) {
      lower_embedding(context, reader, use.user);
    } else {
      lower_bag(context, reader, use.user, table.tensor.size(0));
    }
  }
  context.remove_dead_code();
  reader.store();
  return true;
}

}  // namespace

bool lower_embeddings(LoweringContext& context) {
  bool changed = false;
  for (const auto& table : float_zero_tables(context.model())) changed |= lower_table(context, table);
  return changed;
}

}  // namespace tsquant
