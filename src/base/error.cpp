#include "tsquant/error.h"

namespace tsquant {

namespace {

std::string compose(const std::string& message, const std::string& place, const std::string& advice) {
  std::string text = message;
  if (!place.empty()) text += " (at " + place + ")";
  if (!advice.empty()) text += "; " + advice;
  return text;
}

}  // namespace

const char* to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid_argument";
    case ErrorCode::kModelLoad:
      return "model_load";
    case ErrorCode::kUnsupportedModel:
      return "unsupported_model";
    case ErrorCode::kDataset:
      return "dataset";
    case ErrorCode::kCalibration:
      return "calibration";
    case ErrorCode::kBackendUnavailable:
      return "backend_unavailable";
    case ErrorCode::kAccuracyLimit:
      return "accuracy_limit";
    case ErrorCode::kIo:
      return "io";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "internal";
}

Error::Error(ErrorCode code, const std::string& message, const std::string& place, const std::string& advice)
    : std::runtime_error(compose(message, place, advice)),
      code_(code),
      message_(message),
      place_(place),
      advice_(advice) {}

}  // namespace tsquant
