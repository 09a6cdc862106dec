#include "flows/check_supported.h"

#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <algorithm>

#include "flows/check_options.h"
#include "numerics/formats.h"
#include "options/words.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

constexpr OutputForm kForms[] = {OutputForm::kDecomposed, OutputForm::kReference, OutputForm::kFakeQuantize,
                                 OutputForm::kLowered};

Model linear_net() {
  return Model::from(
      define("def forward(self, x):\n    return torch.linear(x, self.w)\n", {{"w", at::randn({4, 64})}}));
}

/// What the flow says about a weight with this spec; empty when it takes it.
std::string message_of(const GraphView& view, const QuantizationSpec& spec, OutputForm form) {
  QuantizationAnnotation annotation;
  annotation.input_qspec_map[1] = spec;
  Annotations annotations;
  annotate_node(annotations, view, "linear", annotation);
  try {
    check_supported(view, annotations, form);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(CheckSupported, TakesTheFormsOfTheTable) {
  const Model model = linear_net();
  const GraphView view(model);
  for (const FormatRow& row : formats()) {
    for (const bool groups : {false, true}) {
      const auto& allowed = groups ? row.group_forms : row.forms;
      for (const OutputForm form : kForms) {
        QuantizationSpec spec;
        spec.format = row.format;
        if (groups) spec.group_size = 32;
        const std::string message = message_of(view, spec, form);
        if (std::count(allowed.begin(), allowed.end(), form) > 0) {
          EXPECT_EQ(message, "") << row.info.name;
          continue;
        }
        EXPECT_NE(message.find(row.info.name + std::string(groups ? " in groups of 32" : "") + " cannot be written in"),
                  std::string::npos)
            << message;
        EXPECT_NE(message.find(std::string("the ") + word_of(words<OutputForm>(), form) + " form"), std::string::npos)
            << message;
        for (const OutputForm other : allowed)
          EXPECT_NE(message.find(word_of(words<OutputForm>(), other)), std::string::npos) << message;
      }
    }
  }
}

TEST(CheckSupported, RefusesWideCodesAndMissingAxes) {
  const Model model = linear_net();
  const GraphView view(model);
  QuantizationSpec spec;
  spec.dtype = c10::kInt;
  EXPECT_NE(message_of(view, spec, OutputForm::kReference).find("codes of type Int"), std::string::npos);
  spec = {};
  spec.per_channel = true;
  spec.ch_axis = 2;
  EXPECT_NE(message_of(view, spec, OutputForm::kReference).find("ch_axis is 2, but the tensor has 2 dimensions"),
            std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing
