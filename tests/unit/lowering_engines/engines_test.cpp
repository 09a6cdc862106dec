#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tsquant/engine.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

TEST(Engines, OurKernelsComeFirstAndAreTheDefaultOnEveryMachine) {
  const auto engines = available_engines();
  ASSERT_FALSE(engines.empty());
  EXPECT_EQ(engines.front(), "tsquant");
  EXPECT_EQ(default_engine(), "tsquant");
  EXPECT_EQ(std::count(engines.begin(), engines.end(), "tsquant"), 1);
  EXPECT_EQ(std::count(engines.begin(), engines.end(), "none"), 0);
}

TEST(Engines, GuardSelectsAndRestores) {
  const auto before = at::globalContext().qEngine();
  for (const auto& name : available_engines()) {
    {
      const EngineGuard guard(name);
      if (name == "qnnpack") {
        EXPECT_EQ(at::globalContext().qEngine(), at::QEngine::QNNPACK);
      }
      if (name == "onednn") {
        EXPECT_EQ(at::globalContext().qEngine(), at::QEngine::ONEDNN);
      }
    }
    EXPECT_EQ(at::globalContext().qEngine(), before);
  }
}

TEST(Engines, UnknownNameIsRefusedWithTheList) {
  const auto before = at::globalContext().qEngine();
  try {
    const EngineGuard guard("tensorrt");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBackendUnavailable);
    EXPECT_NE(std::string(e.what()).find("tensorrt"), std::string::npos);
    EXPECT_NE(e.advice().find("tsquant"), std::string::npos);
  }
  EXPECT_EQ(at::globalContext().qEngine(), before);
}

}  // namespace
}  // namespace tsquant::testing
