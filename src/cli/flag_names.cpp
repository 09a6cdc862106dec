#include "cli/flag_names.h"

#include <algorithm>
#include <cctype>
#include <string>
#include <utility>
#include <vector>

#include "cli/option_flags.h"
#include "options/tables.h"

namespace tsquant::cli {

namespace {

using Names = std::vector<std::pair<std::string, std::string>>;

/// What messages say besides the names of options, and the command line's words for it.
const Names kPhrases = {
    {" (skip_passes)", ""},
    {" (fast_bias_correction is none or disable_bias_correction is true)", " (--bias-correction none)"},
    {"the ignored scope's name", "--ignore-name"},
    {"the ignored scope's pattern", "--ignore-pattern"},
    {"the ignored scope's type", "--ignore-type"},
    {"the ignored scope's sub-graph end", "an end of --ignore-subgraph"},
    {"the ignored scope's sub-graph", "--ignore-subgraph"},
    {"exchange inputs and outputs", "write it the other way round"},
    {"the fields of activations_quantization_params", "the options --activations-..."},
    {"the fields of weights_quantization_params", "the options --weights-..."},
    {"smooth_quant is false", "SmoothQuant does not run"},
    {"set overflow_fix to disable", "use --overflow-fix disable"},
    {"set mode to", "use --mode"},
};
const Names kOtherNames = {
    {"activations_quantization_params", "--activations-..."},
    {"weights_quantization_params", "--weights-..."},
    {"destination_type", "an fp8 format"},
    {"batchwise_statistics", "--statistics item"},
    {"validation_dataset", "--validation-data"},
    {"calibration_dataset", "--data"},
    {"num_bits", "the number of bits"},
};

/// Messages name the options of the search without the struct that they are in.
const std::string kSearch = "advanced_accuracy_restorer_parameters.";

template <typename Struct>
void add_names(Names& names) {
  for_each_flag(fields<Struct>(), [&](const Field<Struct>& row) {
    const std::string inner = row.name.rfind(kSearch, 0) == 0 ? row.name.substr(kSearch.size()) : row.name;
    if (inner.find('_') != std::string::npos) names.emplace_back(inner, first_name(row.flag));
  });
}

/// Everything, the longest first: a name may be the beginning of another.
const Names& all_names() {
  static const Names names = [] {
    Names options = kOtherNames;
    add_names<QuantizePt2eOptions>(options);
    add_names<OpenVINOQuantizerOptions>(options);
    add_names<AccuracyControlOptions>(options);
    add_names<CompressWeightsOptions>(options);
    std::stable_sort(options.begin(), options.end(),
                     [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
    Names all = kPhrases;
    all.insert(all.end(), options.begin(), options.end());
    return all;
  }();
  return names;
}

/// Names of one word are replaced only where the place of an error is nothing else.
const Names kPlaces = {{"engine", "--engine"}, {"cost", "--cost"}};

bool is_name_part(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '/'; }

/// Replaces whole names only: `smooth_quant` is also the beginning of file names and of operators.
std::string replaced(std::string text, const std::string& name, const std::string& flag) {
  for (size_t at = 0; (at = text.find(name, at)) != std::string::npos;) {
    const size_t end = at + name.size();
    const bool begins = at == 0 || !is_name_part(text[at - 1]) || name.front() == ' ';
    const bool ends = end == text.size() || !is_name_part(text[end]) || (text[end] == '.' && end + 1 == text.size());
    if (begins && ends) text.replace(at, name.size(), flag);
    at += begins && ends ? flag.size() : name.size();
  }
  return text;
}

std::string with_flags(std::string text) {
  for (const auto& [name, flag] : all_names()) text = replaced(std::move(text), name, flag);
  return text;
}

/// A place that is a path or an operator's name is the user's, not ours.
std::string place_with_flags(const std::string& place) {
  for (const auto* names : {&all_names(), &kPlaces}) {
    for (const auto& [name, flag] : *names) {
      if (place == name) return flag;
    }
  }
  return place;
}

}  // namespace

Error with_flag_names(const Error& error) {
  return Error(error.code(), with_flags(error.message()), place_with_flags(error.place()), with_flags(error.advice()));
}

}  // namespace tsquant::cli
