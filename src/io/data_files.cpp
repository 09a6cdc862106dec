#include "tsquant/data_files.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <filesystem>

#include "io/archive_info.h"
#include "io/image_folder.h"
#include "io/input_path.h"
#include "io/named_tensors.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

NamedTensors read_tensors(const std::string& path) {
  const std::string extension = std::filesystem::path(path).extension().string();
  return extension == ".npy" || extension == ".npz" ? read_numpy_file(path) : read_torch_file(path);
}

[[noreturn]] void refuse_model(const std::string& path) {
  throw Error(ErrorCode::kDataset, "this is a model, not data", path,
              "give --data a file of tensors, or a folder of images");
}

const at::Tensor& find_tensor(const NamedTensors& tensors, const std::string& name, const std::string& path) {
  for (const auto& entry : tensors) {
    if (entry.name == name) return entry.tensor;
  }
  if (is_model_archive(path)) refuse_model(path);
  throw Error(ErrorCode::kDataset, fmt::format("the data file has no tensor \"{}\"", name), path,
              "it holds: " + describe(tensors));
}

std::vector<at::Tensor> choose_inputs(const NamedTensors& tensors, const DataOptions& options,
                                      const std::string& path) {
  std::vector<at::Tensor> inputs;
  for (const auto& name : options.inputs) inputs.push_back(find_tensor(tensors, name, path));
  if (!inputs.empty()) return inputs;
  for (const auto& entry : tensors) {
    if (entry.name != options.labels) inputs.push_back(entry.tensor);
  }
  if (inputs.size() != 1) {
    throw Error(ErrorCode::kDataset, "the data file holds several tensors", path,
                "choose with --inputs from: " + describe(tensors));
  }
  return inputs;
}

bool is_token_stream(const at::Tensor& tensor) {
  return tensor.dim() == 1 && c10::isIntegralType(tensor.scalar_type(), /*includeBool=*/false);
}

/// Non-overlapping windows of a token stream and, for each position, the token that follows it.
void cut_windows(std::vector<at::Tensor>& inputs, at::Tensor& labels, const DataOptions& options,
                 const std::string& path) {
  if (options.window <= 0 || inputs.size() != 1 || !is_token_stream(inputs.front())) return;
  const at::Tensor tokens = inputs.front();
  const int64_t count = (tokens.numel() - 1) / options.window, used = count * options.window;
  if (count < 1) {
    throw Error(ErrorCode::kDataset,
                fmt::format("{} tokens are too few for one window of {}", tokens.numel(), options.window), path,
                "use a shorter --window");
  }
  inputs.front() = tokens.narrow(0, 0, used).view({count, options.window});
  if (!labels.defined()) labels = tokens.narrow(0, 1, used).reshape({count, options.window});
}

at::Tensor per_channel(const std::vector<double>& values, const at::Tensor& like) {
  std::vector<int64_t> shape(like.dim(), 1);
  shape[1] = static_cast<int64_t>(values.size());
  return at::tensor(values, c10::kDouble).to(c10::kFloat).view(shape);
}

/// 8-bit images and float tensors are scaled and normalised; token ids, masks and the like stay as they are.
at::Tensor convert(at::Tensor batch, const DataOptions& options) {
  const bool bytes = batch.scalar_type() == c10::kByte;
  if (!bytes && !batch.is_floating_point()) return batch;
  const bool normalise = !options.mean.empty() && batch.dim() >= 2;
  // Means and deviations are given for values in [0, 1], so bytes are divided by 255 unless told otherwise.
  const double scale = options.scale != 0 ? options.scale : (bytes && normalise ? 255.0 : 0.0);
  if (scale == 0 && !normalise) return batch;
  batch = batch.to(c10::kFloat);
  if (scale != 0 && scale != 1) batch = batch / scale;
  if (!normalise) return batch;
  if (batch.size(1) != static_cast<int64_t>(options.mean.size())) {
    throw Error(ErrorCode::kDataset,
                fmt::format("{} means were given for {} channels", options.mean.size(), batch.size(1)), "--normalize",
                "give one mean and one deviation per channel (dimension 1)");
  }
  return (batch - per_channel(options.mean, batch)) / per_channel(options.stddev, batch);
}

void check_options(const DataOptions& options) {
  const auto refuse = [](const std::string& message, const std::string& place) {
    throw Error(ErrorCode::kInvalidArgument, message, place);
  };
  if (options.batch_size < 1) refuse("the batch size must be at least 1", "--batch-size");
  if (options.mean.size() != options.stddev.size()) refuse("as many means as deviations are needed", "--normalize");
  for (double value : options.stddev) {
    if (value == 0) refuse("a deviation of 0 cannot divide", "--normalize");
  }
}

Dataset batches_of(const std::vector<at::Tensor>& inputs, const DataOptions& options) {
  return Dataset::from_rows(inputs, options.batch_size, [options](std::vector<at::Tensor>& batch) {
    for (auto& tensor : batch) tensor = convert(tensor, options);
  });
}

DataFile load_folder(const std::string& path, const DataOptions& given) {
  auto folder = list_images(path);
  const auto limit = given.limit > 0 ? static_cast<size_t>(given.limit) : folder.files.size();
  if (limit < folder.files.size()) folder.files.resize(limit);
  const auto count = static_cast<int64_t>(folder.files.size());
  if (folder.labels.defined()) folder.labels = folder.labels.narrow(0, 0, count);
  DataOptions options = given;
  if (options.scale == 0) options.scale = 255;
  const auto files = folder.files;
  const int64_t batch_size = options.batch_size;
  auto get = [files, options, batch_size](int64_t index) {
    const size_t begin = static_cast<size_t>(index * batch_size);
    std::vector<at::Tensor> rows;
    for (size_t i = begin; i < std::min(files.size(), begin + static_cast<size_t>(batch_size)); ++i) {
      rows.push_back(read_image(files[i], options.image_size));
      if (rows.back().sizes() != rows.front().sizes()) {
        throw Error(ErrorCode::kDataset, "the images of one batch differ in size", files[i],
                    "resize them with --image-size, or use --batch-size 1");
      }
    }
    return Sample{{convert(at::stack(rows), options)}, {}};
  };
  return {Dataset((count + batch_size - 1) / batch_size, get, batch_size), {}, folder.labels};
}

}  // namespace

DataFile load_data(const std::string& path, const DataOptions& options) {
  check_options(options);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    const std::string reason = error ? ": " + error.message() : "";
    throw Error(ErrorCode::kDataset, "no such data file" + reason, path, "check the path given to --data");
  }
  if (std::filesystem::is_directory(path)) return load_folder(path, options);
  require_readable(path, ErrorCode::kDataset);
  if (options.inputs.empty() && is_model_archive(path)) refuse_model(path);
  const auto tensors = read_tensors(path);
  auto inputs = choose_inputs(tensors, options, path);
  at::Tensor labels = options.labels.empty() ? at::Tensor() : find_tensor(tensors, options.labels, path);
  for (const auto& input : inputs) {
    if (input.dim() == 0 || input.numel() == 0) {
      throw Error(ErrorCode::kDataset, "the data set is empty", path, "give at least one sample");
    }
  }
  cut_windows(inputs, labels, options, path);
  const int64_t rows = inputs.front().size(0);
  if (labels.defined() && (labels.dim() == 0 || labels.size(0) != rows)) {
    throw Error(ErrorCode::kDataset,
                fmt::format("there are {} samples, but {} labels", rows, labels.dim() == 0 ? 1 : labels.size(0)), path);
  }
  if (options.limit > 0 && options.limit < rows) {
    for (auto& input : inputs) input = input.narrow(0, 0, std::min(options.limit, input.size(0)));
    if (labels.defined()) labels = labels.narrow(0, 0, options.limit);
  }
  return {batches_of(inputs, options), inputs, labels};
}

}  // namespace tsquant
