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
    {"give a dataset", "give --data"},
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

/// Messages may name options without the struct that they are in.
const std::vector<std::string> kStructs{"advanced_accuracy_restorer_parameters.", "advanced_parameters."};

std::string without_struct(const std::string& name) {
  for (const auto& outer : kStructs) {
    if (name.rfind(outer, 0) == 0) return name.substr(outer.size());
  }
  return name;
}

/// The names of options of a struct, with and without the struct that they are in.
template <typename Struct>
void add_names(Names& names) {
  for_each_flag(fields<Struct>(), [&](const Field<Struct>& row) {
    const std::string flag = first_name(row.flag), inner = without_struct(row.name);
    names.emplace_back(inner, flag);
    if (inner != row.name) names.emplace_back(row.name, flag);
  });
}

const Names& option_names() {
  static const Names names = [] {
    Names all;
    add_names<QuantizePt2eOptions>(all);
    add_names<OpenVINOQuantizerOptions>(all);
    add_names<AccuracyControlOptions>(all);
    add_names<CompressWeightsOptions>(all);
    return all;
  }();
  return names;
}

/// Everything that is replaced within a text, the longest first: a name may be the beginning of another. Names of one
/// word are words of messages too.
const Names& names_in_text() {
  static const Names names = [] {
    Names options = kOtherNames;
    std::copy_if(option_names().begin(), option_names().end(), std::back_inserter(options),
                 [](const auto& entry) { return entry.first.find('_') != std::string::npos; });
    std::stable_sort(options.begin(), options.end(),
                     [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
    Names all = kPhrases;
    all.insert(all.end(), options.begin(), options.end());
    return all;
  }();
  return names;
}

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
  for (const auto& [name, flag] : names_in_text()) text = replaced(std::move(text), name, flag);
  return text;
}

/// A place that is a path or an operator's name is the user's, not ours.
std::string place_with_flags(const std::string& place) {
  for (const auto* names : {&names_in_text(), &option_names()}) {
    for (const auto& [name, flag] : *names) {
      if (place == name) return flag;
    }
  }
  return place;
}

/// Messages that begin with the option which is their place mean it, also when its name is a plain word.
std::string message_with_flags(const Error& error) {
  const std::string &text = error.message(), &place = error.place(), flag = place_with_flags(place);
  const bool names_place = flag != place && text.rfind(place + " ", 0) == 0;
  return names_place ? flag + with_flags(text.substr(place.size())) : with_flags(text);
}

}  // namespace

Error with_flag_names(const Error& error) {
  return Error(error.code(), message_with_flags(error), place_with_flags(error.place()), with_flags(error.advice()));
}

}  // namespace tsquant::cli
