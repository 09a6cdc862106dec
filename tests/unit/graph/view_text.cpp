#include "unit/graph/view_text.h"

#include <torch/script.h>

#include <fstream>
#include <set>
#include <sstream>

#include "graph/op_table.h"

namespace tsquant::testing {

std::vector<std::string> read_lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

Sample sample_for(const std::string& header) {
  std::istringstream words(header);
  std::string word;
  words >> word;
  Sample sample;
  while (words >> word) {
    const auto colon = word.find(':');
    std::vector<int64_t> shape;
    std::istringstream sizes(word.substr(0, colon));
    for (std::string size; std::getline(sizes, size, 'x');) shape.push_back(std::stoll(size));
    const bool is_float = word.substr(colon + 1) == "float32";
    sample.args.emplace_back(is_float ? at::rand(shape) : at::zeros(shape, at::kLong));
  }
  return sample;
}

namespace {

/// Batch norms that folding removes: those that are the only consumer of a convolution.
std::set<int64_t> foldable(const GraphView& view) {
  std::set<int64_t> ids;
  for (const ViewNode& node : view.nodes()) {
    if (node.type != "batch_norm") continue;
    const ViewNode& producer = view.node(view.input_edge(node, 0)->from);
    if (producer.type.rfind("conv", 0) == 0 && producer.out_edges.size() == 1) ids.insert(node.id);
  }
  return ids;
}

std::string shape_text(const TensorInfo& info) {
  if (!info.known) return "-";
  std::string text;
  for (const int64_t size : info.shape) text += (text.empty() ? "" : "x") + std::to_string(size);
  return text.empty() ? "scalar" : text;
}

class Writer {
 public:
  Writer(const GraphView& view, bool fold) : view_(view) {
    if (fold) folded_ = foldable(view);
  }

  std::vector<std::string> lines() {
    std::vector<std::string> result;
    for (const ViewNode& node : view_.nodes()) {
      if (node.kind == NodeKind::kInput) {
        labels_[node.id] = "@" + std::to_string(inputs_++);
      } else if (node.kind == NodeKind::kParameter) {
        if (only_feeds_folded(node)) continue;
        result.push_back("parameter " + label(node));
      } else if (!folded_.count(node.id)) {
        const bool has_new_bias = followed_by_folded(node) && node.in_edges.size() == 2;
        if (has_new_bias) result.push_back("parameter *");
        result.push_back(line(node, has_new_bias));
      }
    }
    return result;
  }

 private:
  bool only_feeds_folded(const ViewNode& node) const {
    for (const int64_t edge : node.out_edges) {
      if (!folded_.count(view_.edge(edge).to)) return false;
    }
    return true;
  }

  bool followed_by_folded(const ViewNode& node) const {
    return node.out_edges.size() == 1 && folded_.count(view_.edge(node.out_edges[0]).to);
  }

  std::string label(const ViewNode& node) {
    if (labels_.count(node.id)) return labels_[node.id];
    if (node.kind == NodeKind::kParameter) return node.name;
    if (folded_.count(node.id)) return label(view_.node(view_.input_edge(node, 0)->from));
    return node.fx_name;
  }

  std::string line(const ViewNode& node, bool has_new_bias) {
    std::string text = node.fx_name + " " + node.type + " " + node.op->metatype + " " + shape_text(node.info) + " <";
    for (const int64_t id : node.in_edges) {
      const ViewEdge& edge = view_.edge(id);
      text += " " + label(view_.node(edge.from)) + ":" + std::to_string(edge.output_port);
    }
    return text + (has_new_bias ? " *:0" : "");
  }

  const GraphView& view_;
  std::set<int64_t> folded_;
  std::map<int64_t, std::string> labels_;
  int inputs_ = 0;
};

}  // namespace

std::vector<std::string> view_lines(const GraphView& view, bool fold_batch_norm) {
  return Writer(view, fold_batch_norm).lines();
}

}  // namespace tsquant::testing
