#include "calibration/fingerprint.h"

#include <ATen/ATen.h>
#include <c10/util/hash.h>
#include <fmt/format.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <vector>

namespace tsquant {

namespace {

/// c10::sha1 takes one string at a time, so long data are a chain of blocks.
constexpr size_t kBlock = 1 << 16;

std::string sha1(const std::string& text) { return c10::sha1(text).str(); }

void add_constants(Digest& digest, const torch::jit::Block* block) {
  for (const auto* node : block->nodes()) {
    if (node->kind() == c10::prim::Constant && node->hasAttributes()) {
      const auto name = node->attributeNames().front();
      // Printed graphs show "<Tensor>" only.
      if (node->kindOf(name) == torch::jit::AttributeKind::t) digest.add(node->t(name));
      if (node->kindOf(name) == torch::jit::AttributeKind::ival) digest.add(node->ival(name));
    }
    for (const auto* inner : node->blocks()) add_constants(digest, inner);
  }
}

template <typename T>
std::string text_of(const c10::optional<T>& value) {
  return value ? fmt::to_string(*value) : "none";
}

std::string text_of(const QuantizationSpec& spec) {
  return fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}", to_string(spec.format),
                     static_cast<int>(spec.mode), text_of(spec.signedness_to_force), spec.per_channel, spec.ch_axis,
                     spec.narrow_range, spec.half_range, spec.group_size, spec.group_axis,
                     fmt::join(spec.codebook, ","), static_cast<int>(spec.formula),
                     spec.dtype ? c10::toString(*spec.dtype) : "none", text_of(spec.quant_min), text_of(spec.quant_max),
                     spec.eps, static_cast<int>(spec.observer), text_of(spec.fixed_scale),
                     text_of(spec.fixed_zero_point), spec.averaging_constant, spec.is_dynamic, spec.float_zero_point);
}

}  // namespace

void Digest::add(const void* bytes, size_t count) {
  const char* next = static_cast<const char*>(bytes);
  while (count > 0) {
    const size_t part = std::min(count, kBlock - block_.size());
    block_.append(next, part);
    next += part;
    count -= part;
    if (block_.size() == kBlock) block_ = sha1(block_);
  }
}

void Digest::add(const std::string& text) {
  const uint64_t size = text.size();
  add(&size, sizeof(size));
  add(text.data(), text.size());
}

void Digest::add(const at::Tensor& tensor) {
  if (!tensor.defined()) return add(std::string("undefined"));
  add(fmt::format("{} [{}]", c10::toString(tensor.scalar_type()), fmt::join(tensor.sizes(), ",")));
  if (tensor.is_quantized()) {
    add(tensor.int_repr());
    return add(tensor.dequantize());
  }
  const auto dense = tensor.detach().to(at::kCPU).contiguous();
  add(dense.data_ptr(), dense.nbytes());
}

void Digest::add(const c10::IValue& value) {
  if (value.isTensor()) return add(value.toTensor());
  if (value.isTuple() || value.isList()) {
    const bool is_tuple = value.isTuple();
    const at::ArrayRef<c10::IValue> items = is_tuple ? value.toTupleRef().elements() : value.toListRef();
    add(fmt::format("{} of {}", is_tuple ? "tuple" : "list", items.size()));
    for (const c10::IValue& item : items) add(item);
    return;
  }
  if (value.isGenericDict()) {
    add(std::string("dict"));
    for (const auto& item : value.toGenericDict()) {
      add(item.key());
      add(item.value());
    }
    return;
  }
  // Printing an object would print its address.
  if (value.isObject() || value.isCapsule()) return add(value.tagKind());
  std::ostringstream text;
  text.precision(17);
  text << value;
  add(value.tagKind() + text.str());
}

std::string Digest::text() const { return sha1(block_ + "end"); }

namespace {

/// Cloning a module gives its class a new name, which depends on what the process did before.
std::string without_class_names(const std::string& text) {
  static const std::string kPrefix = "__torch__";
  std::string result;
  size_t done = 0;
  for (size_t at = text.find(kPrefix); at != std::string::npos; at = text.find(kPrefix, done)) {
    result.append(text, done, at - done);
    done = at;
    while (done < text.size() &&
           (std::isalnum(static_cast<unsigned char>(text[done])) || text[done] == '_' || text[done] == '.')) {
      ++done;
    }
  }
  return result.append(text, done);
}

}  // namespace

std::string fingerprint(const Model& model) {
  Digest digest;
  digest.add(without_class_names(model.graph()->toString(/*print_source_locations=*/false)));
  add_constants(digest, model.graph()->block());
  for (const auto& attribute : model.module().named_attributes(/*recurse=*/true)) {
    digest.add(attribute.name);
    digest.add(attribute.value);
  }
  return digest.text();
}

std::string fingerprint(const Sample& sample) {
  Digest digest;
  for (const auto& value : sample.args) digest.add(value);
  std::vector<std::string> names;
  for (const auto& [name, value] : sample.kwargs) names.push_back(name);
  std::sort(names.begin(), names.end());
  for (const auto& name : names) {
    digest.add(name);
    digest.add(sample.kwargs.at(name));
  }
  return digest.text();
}

std::string fingerprint(const Annotations& annotations) {
  Digest digest;
  for (const auto& point : annotations.points) {
    if (point.kind != PointKind::kActivation) continue;
    digest.add(fmt::format("{} {} {} {}", point.id, point.node, text_of(point.input_port), text_of(point.spec)));
  }
  return digest.text();
}

std::string weights_fingerprint(const Annotations& annotations) {
  Digest digest;
  for (const auto& point : annotations.points) {
    if (point.kind != PointKind::kWeight) continue;
    digest.add(fmt::format("{} {} {} {}", point.id, point.node, text_of(point.input_port), text_of(point.spec)));
    if (!point.compression) continue;
    const CompressionChoice& choice = *point.compression;
    digest.add(fmt::format("{} {} {} {}", choice.ratio_defining, choice.backup ? text_of(*choice.backup) : "none",
                           static_cast<int>(choice.fallback), choice.adaptive_codebook));
  }
  return digest.text();
}

}  // namespace tsquant
