#include <ATen/ATen.h>

#include "graph/insert_op.h"
#include "graph/params.h"
#include "lowering/compressed/decompression_chain.h"
#include "numerics/formats.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// Writes the operators of one weight before a node.
class ChainWriter {
 public:
  ChainWriter(Graph& graph, Format format) : graph_(graph), format_(format) {}

  /// One code in an element. @param stored what `packed` holds, in rows of `row` codes
  Value* codes(Value* packed, const at::Tensor& stored, const std::vector<int64_t>& shape, int64_t row,
               bool is_signed) {
    const int bits = format_info(format_).bits;
    if (bits == 8) return stored.sizes() == shape ? packed : reshape(packed, shape);
    Value* codes = nullptr;
    int64_t offset = 0;
    int first = 0;
    for (const int width : {4, 2, 1}) {
      if ((bits & width) == 0) continue;
      const int64_t bytes = (row * width + 7) / 8;
      Value* plane = bits == width ? packed : slice(packed, offset, offset + bytes);
      plane = unpacked(plane, width);
      const bool exact = row * width % 8 == 0;
      if (bits != width || !exact) plane = rows(plane, shape, row, exact);
      if (first > 0) plane = op("aten::bitwise_left_shift", {plane, integer(first)});
      codes = codes ? op("aten::add", {codes, plane, integer(1)}) : plane;
      offset += bytes;
      first += width;
    }
    if (is_signed) {
      codes = op("aten::sub", {to(codes, c10::kChar), integer(int64_t{1} << (bits - 1)), integer(1)});
    }
    return reshape(codes, shape);
  }

  Value* to(Value* x, c10::ScalarType type) {
    Value* no = graph_.insertConstant(false);
    return op("aten::to", {x, integer(static_cast<int64_t>(type)), no, no, graph_.insertConstant(c10::IValue())});
  }
  Value* reshape(Value* x, const std::vector<int64_t>& shape) {
    return op("aten::reshape", {x, graph_.insertConstant(shape)});
  }
  Value* op(const char* kind, const std::vector<Value*>& inputs) { return insert_op(graph_, kind, inputs); }
  Value* integer(int64_t value) { return graph_.insertConstant(value); }

 private:
  /// [..., bytes] -> [..., bytes, codes in a byte]
  Value* unpacked(Value* bytes, int width) {
    const int count = 8 / width, mask = (1 << width) - 1;
    std::vector<Value*> parts;
    for (int i = 0; i < count; ++i) {
      Value* part = i == 0 ? bytes : op("aten::bitwise_right_shift", {bytes, integer(i * width)});
      if (i + 1 < count) part = op("aten::bitwise_and", {part, integer(mask)});
      parts.push_back(part);
    }
    Node* list = graph_.insertNode(graph_.createList(c10::TensorType::get(), parts));
    return op("aten::stack", {list->output(), integer(-1)});
  }

  /// One row per packed row, without the codes that only fill its last byte.
  Value* rows(Value* plane, const std::vector<int64_t>& shape, int64_t row, bool exact) {
    int64_t values = 1;
    for (const int64_t size : shape) values *= size;
    Value* x = reshape(plane, {row == 0 ? 0 : values / row, -1});
    return exact ? x : slice(x, 0, row);
  }

  Value* slice(Value* x, int64_t begin, int64_t end) {
    return op("aten::slice", {x, integer(-1), integer(begin), integer(end), integer(1)});
  }

  Graph& graph_;
  Format format_;
};

}  // namespace

Node* insert_decompression(Model& model, NewParameters& parameters, const std::vector<ParameterUse>& uses,
                           const StoredWeight& weight) {
  auto graph = model.graph();
  const auto slot = slot_of(model, uses.front().first->input(uses.front().second));
  Node* reader = insert_reader(model, uses, "aten::alias");
  set_param(model, reader, 0, weight.codes);
  torch::jit::WithInsertPoint guard(reader);
  ChainWriter write(*graph, weight.format);
  const auto beside = [&](const char* suffix, const at::Tensor& tensor) {
    return parameters.read_beside(tensor, slot, suffix);
  };

  Value* x = write.codes(reader->input(0), weight.codes, weight.groups, weight.shape.back(), weight.is_signed);
  if (weight.table.defined()) {
    Value* table = beside("_table", weight.table);
    x = write.op("aten::take", {table, write.to(x, c10::kLong)});
  } else {
    x = write.to(x, c10::kHalf);
  }
  if (weight.zero_point.defined()) {
    const std::vector<int64_t> shape = weight.scale.sizes().vec();
    Value* zero_point = write.codes(beside("_zero_point", weight.zero_point), weight.zero_point, shape,
                                    weight.scale.numel(), /*is_signed=*/false);
    x = write.op("aten::sub", {x, write.to(zero_point, c10::kHalf), write.integer(1)});
  }
  x = write.op("aten::mul", {x, beside("_scale", weight.scale)});
  if (weight.groups != weight.shape) x = write.reshape(x, weight.shape);
  x = write.to(x, weight.dtype);
  reader->output()->replaceAllUsesWith(x);
  reader->destroy();
  return x->node();
}

}  // namespace tsquant
