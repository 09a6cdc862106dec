#include "cli/options.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include "cli/option_flags.h"
#include "cli/value_checks.h"
#include "options/tables.h"
#include "tsquant/error.h"

namespace tsquant::cli {

namespace {

const Words<c10::ScalarType> kDtypes = {
    {"float32", c10::kFloat},     {"float", c10::kFloat}, {"float64", c10::kDouble}, {"float16", c10::kHalf},
    {"bfloat16", c10::kBFloat16}, {"int64", c10::kLong},  {"int32", c10::kInt},      {"int16", c10::kShort},
    {"int8", c10::kChar},         {"uint8", c10::kByte},  {"bool", c10::kBool}};

[[noreturn]] void usage(const std::string& message, const std::string& option, const std::string& advice = "") {
  throw Error(ErrorCode::kInvalidArgument, message, option, advice);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + 1) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<double> numbers(const std::string& text, const std::string& option) {
  std::vector<double> values;
  for (const auto& part : split(text, ',')) {
    size_t used = 0;
    double value = 0;
    try {
      value = std::stod(part, &used);
    } catch (const std::exception&) {
      used = std::string::npos;
    }
    if (used != part.size()) {
      usage(fmt::format("\"{}\" is no number", part), option, "write a number such as 16 or 0.5");
    }
    values.push_back(value);
  }
  return values;
}

at::Tensor random_input(const std::string& text, at::Generator generator) {
  const auto parts = split(text, ':');
  const c10::ScalarType* dtype = find_word(kDtypes, parts.size() > 1 ? parts[1] : "float32");
  if (parts.size() > 2 || !dtype) {
    usage(fmt::format("\"{}\" is no shape", text), "--input-shape",
          fmt::format("write SHAPE[:dtype], for example 1,3,224,224 or 1,16:int64; dtypes: {}",
                      fmt::join(all_words(kDtypes), ", ")));
  }
  std::vector<int64_t> shape;
  if (!parts[0].empty()) {
    for (double size : numbers(parts[0], "--input-shape")) {
      if (size < 0 || size != static_cast<double>(static_cast<int64_t>(size))) {
        usage(fmt::format("\"{}\" is no shape", text), "--input-shape", "sizes are whole numbers");
      }
      shape.push_back(static_cast<int64_t>(size));
    }
  }
  if (c10::isFloatingType(*dtype)) {
    return at::rand(shape, generator, at::TensorOptions(c10::kFloat)).to(*dtype);
  }
  return at::randint(0, 2, shape, generator, at::TensorOptions(c10::kLong)).to(*dtype);
}

/// A number or truth value: "16000" is an int, "0.5" a float, "true" a bool.
c10::IValue literal(const std::string& text, const std::string& option) {
  if (text == "true" || text == "false") return text == "true";
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = std::string::npos;
  }
  if (used != text.size()) {
    usage(fmt::format("\"{}\" is no number and no truth value", text), option, "write a number, true or false");
  }
  if (text.find_first_of(".eE") == std::string::npos) return static_cast<int64_t>(value);
  return value;
}

/// The samples of `data` with further arguments.
Dataset with_scalars(const Dataset& data, const std::vector<std::string>& scalars) {
  Sample more;
  for (const auto& text : scalars) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos) {
      more.args.push_back(literal(text, "--scalar"));
    } else {
      more.kwargs[text.substr(0, equals)] = literal(text.substr(equals + 1), "--scalar");
    }
  }
  const auto get = [data, more](int64_t index) {
    Sample sample = data.get(index);
    sample.args.insert(sample.args.end(), more.args.begin(), more.args.end());
    sample.kwargs.insert(more.kwargs.begin(), more.kwargs.end());
    return sample;
  };
  return Dataset(data.length(), get, data.batch_size());
}

void load_library(const std::string& path) {
  if (!dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) {
    const char* reason = dlerror();
    throw Error(ErrorCode::kModelLoad, fmt::format("cannot load the library: {}", reason ? reason : ""), path);
  }
}

}  // namespace

void add_data_options(CLI::App& app, DataArgs& args, int64_t batch_size, bool required) {
  args.options.batch_size = batch_size;
  args.options.window = 128;
  const std::string group = "Data";
  auto* data = app.add_option("--data", args.path,
                              "Data: .pt (module with buffers, or pickled tensors), .npy, .npz, or a folder of images");
  data->group(group)->required(required);
  app.add_option("--inputs", args.options.inputs, "Names of the tensors that are the model's inputs, in order")
      ->delimiter(',')
      ->group(group);
  app.add_option("--labels", args.options.labels, "Name of the tensor with the class numbers")->group(group);
  app.add_option("--batch-size", args.options.batch_size, "Samples per call of the model")
      ->group(group)
      ->capture_default_str();
  app.add_option("--scale", args.options.scale, "Divide by this; 8-bit data that is normalised: 255 unless given")
      ->group(group);
  app.add_option("--normalize", args.normalize,
                 "MEANS:DEVIATIONS per channel, e.g. 0.485,0.456,0.406:0.229,0.224,0.225")
      ->group(group);
  app.add_option("--image-size", args.options.image_size, "Folder of images: resize to this height and width")
      ->group(group);
  app.add_option("--limit", args.options.limit, "Use only the first samples; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->group(group);
  app.add_option("--scalar", args.scalars,
                 "Number or truth value as a further argument of every call: 16000, or rate=16000 by name; repeat it")
      ->allow_extra_args(false)
      ->group(group);
  app.add_option("--window", args.options.window, "Token streams (one-dimensional integers): cut into windows")
      ->group(group)
      ->capture_default_str();
}

DataFile open_data(const DataArgs& args) {
  DataOptions options = args.options;
  if (!args.normalize.empty()) {
    const auto parts = split(args.normalize, ':');
    if (parts.size() != 2) usage("means and deviations must be separated by one colon", "--normalize");
    options.mean = numbers(parts[0], "--normalize");
    options.stddev = numbers(parts[1], "--normalize");
  }
  DataFile data = load_data(args.path, options);
  if (!args.scalars.empty()) data.dataset = with_scalars(data.dataset, args.scalars);
  return data;
}

void add_shape_options(CLI::App& app, ShapeArgs& args) {
  app.add_option("--input-shape", args.shapes,
                 "SHAPE[:dtype] of one input, e.g. 1,3,224,224 or 1,16:int64, or =VALUE for a number; repeat it")
      ->allow_extra_args(false);
}

Sample make_sample(const ShapeArgs& args) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(/*seed=*/7);
  Sample sample;
  for (const auto& shape : args.shapes) {
    const bool is_literal = !shape.empty() && shape.front() == '=';
    sample.args.push_back(is_literal ? literal(shape.substr(1), "--input-shape")
                                     : c10::IValue(random_input(shape, generator)));
  }
  return sample;
}

void add_quantizer_options(CLI::App& app, QuantizerArgs& args) {
  const std::string group = kQuantizerGroup;
  args.given = [&app, group] {
    std::vector<std::string> names;
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_group() == group && option->count() > 0) names.push_back(option->get_name());
    }
    return names;
  };
  app.add_option("--quantizer", args.quantizer,
                 "openvino, x86_inductor, xnnpack, fx, or a shared library with a quantizer of your own")
      ->group(group)
      ->capture_default_str();
  app.add_option("--qconfig", args.qconfig,
                 "fx: QConfigMapping as JSON, or x86, fbgemm, onednn or qnnpack for its default mapping")
      ->group(group);
  add_flags(app, args.openvino);
  for_each_flag(fields<QuantizePt2eOptions>(), [&](const auto& row) {
    if (row.name == "skip_passes") add_flag(app, row, args.options);
  });
}

void add_library_option(CLI::App& app) {
  app.add_option_function<std::vector<std::string>>(
         "--library",
         [](const std::vector<std::string>& paths) {
           for (const auto& path : paths) load_library(path);
         },
         "Shared library with operators that the model needs; repeat it")
      ->allow_extra_args(false);
}

void add_process_options(CLI::App& app) {
  add_library_option(app);
  app.add_option_function<int>(
         "--threads", [](const int& threads) { at::set_num_threads(threads); }, "LibTorch's intra-op threads")
      ->check(thread_count());
}

void add_json_option(CLI::App& app, std::string& path) {
  app.add_option("--json", path, "Write the result as JSON to this file, or to stdout for -");
}

}  // namespace tsquant::cli
