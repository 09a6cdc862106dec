#pragma once

#include <stdexcept>
#include <string>

namespace tsquant {

/// What kind of problem an Error reports. The command-line program maps each kind to an exit code.
enum class ErrorCode {
  kInvalidArgument,     ///< an option or argument has a value that makes no sense (exit code 2)
  kModelLoad,           ///< the model file is missing, damaged or no TorchScript archive (3)
  kUnsupportedModel,    ///< the model cannot be captured, or nothing in it could be quantized (4)
  kDataset,             ///< the data set is empty, unreadable or does not fit the model's inputs (5)
  kCalibration,         ///< statistics could not be collected, for example because of NaN (5)
  kBackendUnavailable,  ///< the requested quantized engine is not part of this LibTorch build (4)
  kAccuracyLimit,       ///< an accuracy limit was missed; the best model has been written (6)
  kIo,                  ///< a file could not be written (7)
  kCancelled,           ///< the user asked to stop; nothing was written (7)
  kInternal,            ///< a bug of tsquant; please report it (7)
};

/// Returns the stable lower-case name of a code, for example "invalid_argument".
const char* to_string(ErrorCode code);

/// The one exception type of the library. `what()` reads "<message> (at <place>); <advice>", where place and advice
/// are left out when empty.
class Error : public std::runtime_error {
 public:
  /// @param message what was wrong
  /// @param place   where: a node name, a parameter name or a file path; may be empty
  /// @param advice  what the user can do about it; may be empty
  Error(ErrorCode code, const std::string& message, const std::string& place = "", const std::string& advice = "");

  ErrorCode code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& place() const noexcept { return place_; }
  const std::string& advice() const noexcept { return advice_; }

 private:
  ErrorCode code_;
  std::string message_, place_, advice_;
};

}  // namespace tsquant
