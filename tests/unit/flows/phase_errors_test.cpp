#include <gtest/gtest.h>

#include <stdexcept>

#include "flows/phase_clock.h"
#include "support/support.h"
#include "tsquant/error.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::testing {
namespace {

class Asserting : public Quantizer {
 public:
  Annotations annotate(const GraphView& view) const override {
    TORCH_INTERNAL_ASSERT(view.nodes().empty(), "a quantizer expects no nodes");
    return {};
  }
};

TEST(PhaseErrors, AnAssertionOfLibTorchNamesThePhase) {
  auto model = Model::from(define("def forward(self, x):\n    return torch.relu(x)\n"));
  Asserting quantizer;
  try {
    quantize_pt2e(model, quantizer, Dataset::from_tensors({at::rand({2, 3})}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInternal);
    EXPECT_EQ(error.place(), "annotate");
    EXPECT_NE(error.message().find("phase annotate failed: "), std::string::npos) << error.message();
    EXPECT_EQ(error.message().find('\n'), std::string::npos) << error.message();
    EXPECT_THROW(std::rethrow_if_nested(error), c10::Error);
  }
}

TEST(PhaseErrors, ErrorsOfTheLibraryPassUnchanged) {
  Report report;
  PhaseClock clock(report);
  clock.start("calibrate");
  try {
    name_phase_in_errors(clock, [] { throw Error(ErrorCode::kCancelled, "stopped", "here"); });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
    EXPECT_EQ(error.place(), "here");
  }
  EXPECT_THROW(name_phase_in_errors(clock, [] { throw std::out_of_range("index"); }), Error);
}

}  // namespace
}  // namespace tsquant::testing
