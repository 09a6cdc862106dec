#include "graph/verify.h"

#include "base/error_text.h"
#include "graph/attribute_slots.h"
#include "graph/check_blocks.h"
#include "graph/node_lists.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

void check_attribute(const torch::jit::Node* node, const std::string& stage) {
  const auto type = node->input(0)->type()->cast<c10::ClassType>();
  const auto& name = node->s(c10::attr::name);
  if (!type || find_attribute_slot(*type, name)) return;
  throw Error(ErrorCode::kInternal,
              "after " + stage + " the graph reads the attribute `" + name + "` of " + type->annotation_str() +
                  ", which does not exist",
              name, "please report this");
}

}  // namespace

void verify_graph(const Model& model, const std::string& stage) {
  const auto graph = model.graph();
  try {
    check_blocks(*graph);
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kInternal, "the graph is not well formed after " + stage + ": " + short_message(error),
                stage, "please report this");
  }
  for (const auto* node : all_nodes(graph->block())) {
    if (node->kind() == c10::prim::GetAttr) check_attribute(node, stage);
  }
}

}  // namespace tsquant
