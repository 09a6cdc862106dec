#pragma once

#include <gtest/gtest.h>

#include "tsquant/error.h"

namespace tsquant::testing {

/// The Error that a call throws; a failure of the test when it throws none.
template <typename Call>
Error thrown_error(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorCode::kInternal, "");
}

}  // namespace tsquant::testing
