#include <gtest/gtest.h>

#include <set>

#include "annotated_model.h"
#include "support/support.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::testing {
namespace {

using Names = std::set<std::string>;

/// conv2d/0 -> relu/0 -> { conv2d/1 -> sigmoid/0, conv2d/2 -> tanh/0 } -> add/0 -> conv2d/4 -> hardtanh/0
///                   \-> conv2d/3 -> cos/0
torch::jit::Module forked_model() {
  return define(R"(
def forward(self, x):
    a = torch.relu(torch.conv2d(x, self.w))
    left = torch.sigmoid(torch.conv2d(a, self.w))
    right = torch.tanh(torch.conv2d(a, self.w))
    side = torch.cos(torch.conv2d(a, self.w))
    return torch.hardtanh_(torch.conv2d(left + right, self.w)), side
)",
                {{"w", at::rand({3, 3, 1, 1})}});
}

/// Names of the operators that the scope leaves in float.
Names ignored_by(const IgnoredScope& scope) {
  OpenVINOQuantizer quantizer;
  quantizer.set_ignored_scope(scope);
  const AnnotatedModel annotated(forked_model(), quantizer, {at::rand({1, 3, 4, 4})});
  Names names;
  for (const auto& refusal : annotated.annotations().refusals) {
    if (refusal.code == "ignored") names.insert(refusal.node);
  }
  for (const auto& point : annotated.annotations().points) {
    for (const auto& node : point.quantized_nodes) EXPECT_EQ(names.count(node), 0u) << node;
  }
  return names;
}

std::string message_for(const IgnoredScope& scope) {
  const Error error = thrown_by([&] { ignored_by(scope); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  return error.what();
}

void expect_in(const std::string& text, const std::string& message) {
  EXPECT_NE(message.find(text), std::string::npos) << message;
}

const Names kConvolutions{"/conv2d/0", "/conv2d/1", "/conv2d/2", "/conv2d/3", "/conv2d/4"};

TEST(IgnoredScope, names_are_nncfs_or_fx_aliases) {
  EXPECT_EQ(ignored_by({{"/conv2d/1", "cos"}, {}, {}, {}}), (Names{"/conv2d/1", "/cos/0"}));
  EXPECT_EQ(ignored_by({{"conv2d_1"}, {}, {}, {}}), Names{"/conv2d/1"});
}

TEST(IgnoredScope, patterns_match_from_the_start_of_a_name_or_alias) {
  EXPECT_EQ(ignored_by({{}, {"/conv2d/[12]"}, {}, {}}), (Names{"/conv2d/1", "/conv2d/2"}));
  EXPECT_EQ(ignored_by({{}, {".*sigmoid", "/tanh/\\d$"}, {}, {}}), (Names{"/sigmoid/0", "/tanh/0"}));
  EXPECT_EQ(ignored_by({{}, {"conv2d_[34]"}, {}, {}}), (Names{"/conv2d/3", "/conv2d/4"}));
  expect_in("the ignored scope's pattern matches no node (at 2d/1)", message_for({{}, {"2d/1"}, {}, {}}));
}

TEST(IgnoredScope, types_are_functions_operators_or_metatypes) {
  for (const std::string type : {"conv2d", "aten::conv2d", "PTConv2dMetatype"}) {
    EXPECT_EQ(ignored_by({{}, {}, {type}, {}}), kConvolutions) << type;
  }
  EXPECT_EQ(ignored_by({{}, {}, {"PTAddMetatype", "cos"}, {}}), (Names{"/add/0", "/cos/0"}));
}

TEST(IgnoredScope, types_may_be_spelled_as_in_the_file) {
  const auto module = define(R"(
def forward(self, x):
    y = torch._convolution(x, self.w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, False, False, True, True)
    return torch.addmm(self.b, torch.relu(y).flatten(1), self.v.t())
)",
                             {{"w", at::rand({3, 3, 1, 1})}, {"v", at::rand({2, 48})}, {"b", at::rand({2})}});
  const auto ignored = [&](const std::string& type) {
    OpenVINOQuantizer quantizer;
    quantizer.set_ignored_scope({{}, {}, {type}, {}});
    Names names;
    const AnnotatedModel annotated(module, quantizer, {at::rand({1, 3, 4, 4})});
    for (const auto& refusal : annotated.annotations().refusals) {
      if (refusal.code == "ignored") names.insert(refusal.node);
    }
    return names;
  };
  for (const std::string type : {"aten::_convolution", "_convolution", "conv2d", "aten::conv2d"}) {
    EXPECT_EQ(ignored(type), Names{"/conv2d/0"}) << type;
  }
  for (const std::string type : {"aten::addmm", "addmm", "linear", "aten::linear"}) {
    EXPECT_EQ(ignored(type), Names{"/linear/0"}) << type;
  }
}

TEST(IgnoredScope, in_place_operators_have_the_metatype_of_their_twin) {
  for (const std::string type : {"hardtanh_", "aten::hardtanh_", "PTHardTanhMetatype"}) {
    EXPECT_EQ(ignored_by({{}, {}, {type}, {}}), Names{"/hardtanh/0"}) << type;
  }
}

TEST(IgnoredScope, a_subgraph_is_all_simple_paths_between_its_ends) {
  const Names between{"/relu/0", "/conv2d/1", "/sigmoid/0", "/conv2d/2", "/tanh/0", "/add/0"};
  IgnoredScope scope;
  scope.subgraphs = {{{"/relu/0"}, {"/add/0"}}};
  EXPECT_EQ(ignored_by(scope), between) << "/conv2d/3 hangs off the path";
  scope.subgraphs = {{{"/relu/0"}, {"/add/0", "/cos/0"}}};
  Names both = between;
  both.insert({"/conv2d/3", "/cos/0"});
  EXPECT_EQ(ignored_by(scope), both);
  scope.subgraphs = {{{"/sigmoid/0", "/conv2d/2"}, {"/add/0"}}};
  EXPECT_EQ(ignored_by(scope), (Names{"/sigmoid/0", "/conv2d/2", "/tanh/0", "/add/0"}));
  scope.subgraphs = {{{"/conv2d/0"}, {"/conv2d/0"}}, {{"/conv2d/3"}, {"/cos/0"}}};
  EXPECT_EQ(ignored_by(scope), (Names{"/conv2d/0", "/conv2d/3", "/cos/0"})) << "an end alone is a path";
}

TEST(IgnoredScope, rules_add_up) {
  IgnoredScope scope{{"/cos/0"}, {"/tanh"}, {"sigmoid"}, {{{"/add/0"}, {"/conv2d/4"}}}};
  EXPECT_EQ(ignored_by(scope), (Names{"/cos/0", "/tanh/0", "/sigmoid/0", "/add/0", "/conv2d/4"}));
}

TEST(IgnoredScope, validation_offers_the_nearest_names) {
  auto message = message_for({{"/conv2d/9"}, {}, {}, {}});
  expect_in("the ignored scope's name matches no node (at /conv2d/9); closest: /conv2d/", message);
  message = message_for({{}, {"/sigmoit/.*"}, {}, {}});
  expect_in("the ignored scope's pattern matches no node (at /sigmoit/.*); closest: ", message);
  expect_in("/sigmoid/0", message);
  message = message_for({{}, {}, {"conv3d"}, {}});
  expect_in("the ignored scope's type matches no node (at conv3d); closest: conv2d", message);
  expect_in("closest: aten::conv2d", message_for({{}, {}, {"aten::conv3d"}, {}}));
  expect_in("closest: PTConv2dMetatype", message_for({{}, {}, {"PTConv3dMetatype"}, {}}));
  expect_in("the ignored scope's pattern is no regular expression (at [)", message_for({{}, {"["}, {}, {}}));
}

TEST(IgnoredScope, a_tensor_cannot_be_left_in_float) {
  expect_in("the ignored scope's name is a tensor, not an operator (at x); name an operator that reads it: /conv2d/0",
            message_for({{"x"}, {}, {}, {}}));
  IgnoredScope scope{{"x"}, {}, {}, {}};
  scope.validate = false;
  EXPECT_TRUE(ignored_by(scope).empty());
}

TEST(IgnoredScope, validation_of_subgraphs) {
  IgnoredScope scope;
  scope.subgraphs = {{{"/relu/1"}, {"/add/0"}}};
  auto message = message_for(scope);
  expect_in("the ignored scope's sub-graph end matches no node (at /relu/1); closest: ", message);
  expect_in("/relu/0", message);
  scope.subgraphs = {{{"/relu/0"}, {"/add/1"}}};
  expect_in("/add/0", message_for(scope));
  scope.subgraphs = {{{"/add/0"}, {"/relu/0"}}};
  expect_in("given in reverse: its output /relu/0 comes before its input /add/0 (at /add/0 -> /relu/0)",
            message_for(scope));
  scope.subgraphs = {{{"/sigmoid/0"}, {"/cos/0"}}};  // on branches beside each other
  expect_in("the ignored scope's sub-graph matches no node (at /sigmoid/0 -> /cos/0)", message_for(scope));
  scope.validate = false;
  EXPECT_TRUE(ignored_by(scope).empty());
}

TEST(IgnoredScope, without_validation_rules_may_match_nothing) {
  IgnoredScope scope{{"nothing", "/cos/0"}, {"layer9.*"}, {"lstm"}, {{{"a"}, {"b"}}}};
  scope.validate = false;
  EXPECT_EQ(ignored_by(scope), Names{"/cos/0"});
}

}  // namespace
}  // namespace tsquant::testing
