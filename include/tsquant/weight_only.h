#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tsquant/dataset.h"
#include "tsquant/sample.h"

/// The functions of Neural Compressor's neural_compressor.torch.algorithms.weight_only.utility (v2.6), with its names
/// and defaults. What differs from there is said where it does.
///
/// ```cpp
/// auto module = torch::jit::load("model.pt");
/// for (const auto& [norm, layers] : tsquant::get_absorb_layers(module, input).absorb_to_layer) ...
/// auto weight = tsquant::get_module(module, "blocks.0.fc1").attr("weight").toTensor();
/// tsquant::quant_tensor(weight, 4, 32, "asym", tsquant::search_clip(weight).value_or(1));
/// ```
namespace tsquant {

// ---- Weights ----
//
// A weight is a matrix [out_features, in_features] of float32, float64, bfloat16 or float16 on the CPU, not empty. Each
// row, or each group of columns in a row, has a scale s and, with the scheme "asym", a zero point z; the value of a
// code q is (q - z) s. The functions that quantize edit the tensor that they are given, views too, and return it. Codes
// are whole numbers in the dtype of the weight. Rounding is to nearest, half to even.
//
// Errors are Error(kInvalidArgument). bits is 1 to 8 for integers; levels of 4 bits do not look at it. `quantile` is
// above 0 and scales the range, values outside become the outermost code. NaN and infinite weights make NaN.

/// The levels of 4 bits, ascending: NF4 (Dettmers et al., "QLoRA", 2023), and the two FP4 tables of Neural Compressor,
/// whose smallest level is 0.0625 where E2M1 has 0.5.
extern const std::vector<double> kNf4, kFp4Bnb, kFp4E2m1;
/// The codes of these levels: patterns of 4 bits as two's complement.
extern const std::vector<int64_t> kNf4Bit, kFp4BnbBit, kFp4E2m1Bit;

/// The levels by their names: "nf4", "fp4" and "fp4_e2m1_bnb" (equal), "fp4_e2m1".
const std::map<std::string, std::vector<double>>& float_mapping();
const std::map<std::string, std::vector<int64_t>>& int_mapping();
/// One table. @throws Error for another name, listing the four
const std::vector<double>& float_mapping(const std::string& dtype);
const std::vector<int64_t>& int_mapping(const std::string& dtype);

struct QuantizedWeight {
  at::Tensor tensor;                               ///< the weight: codes, or the values that they stand for
  c10::optional<at::Tensor> scale = c10::nullopt;  ///< [out, groups]; with codes only. May be negative with full_range
  c10::optional<at::Tensor> zero_point = c10::nullopt;  ///< as scale, with "asym" only
  /// With DoubleQuant::return_int: `scale` then holds codes, and as one row s = code * hyper_scale + scale_mean, where
  /// each of hyper_scale [1, n] is for DoubleQuant::group_size of them. scale_mean has no dimension; "asym" only.
  c10::optional<at::Tensor> hyper_scale = c10::nullopt, scale_mean = c10::nullopt;
};

/// Rounds each row to levels of 4 bits: s = quantile * max|w| / largest level, the level with w / s below or on the
/// middle to the next. Everything is computed in the tensor's dtype. A row of zeros stays, its scale is 0.
/// @param return_int codes and scale instead of values
/// @param scale to use instead of that formula; must broadcast over the tensor
/// @param double_quant levels (codes with return_int) and scale instead of values
/// @throws Error unknown dtype
QuantizedWeight quantize_4bit(const at::Tensor& tensor, double quantile = 1, const std::string& dtype = "nf4",
                              bool return_int = false, const c10::optional<at::Tensor>& scale = c10::nullopt,
                              bool double_quant = false);

/// Rounds each row to integers 0 to 2^bits - 1 over its range with 0: s = (max - min) / (2^bits - 1),
/// z = round(-min / s), q = clamp(round(w / s) + z). s and z are float32, or float64 as the weight; a row of zeros has
/// the range [-1, 1]. float16 computes in float32 (upstream raises).
/// @param return_int, double_quant codes, scale and zero point instead of values
QuantizedWeight qdq_weight_asym(const at::Tensor& weight, int64_t bits = 4, double quantile = 1,
                                bool return_int = false, bool double_quant = false);

/// Rounds each row to integers -2^(bits - 1) to 2^(bits - 1) - 1 (1 bit: 0 and 1): s = max|w| / (2^(bits - 1) - 1), 1
/// for max|w| in rows of zeros. s has the dtype of the weight; float16 computes in float32, s too (upstream raises).
/// @param full_range s = max|w| / 2^(bits - 1), negative where max > -min: the larger side meets the lowest code
/// @param return_int, double_quant codes and scale instead of values
QuantizedWeight qdq_weight_sym(const at::Tensor& weight, int64_t bits = 4, double quantile = 1, bool return_int = false,
                               bool full_range = false, bool double_quant = false);

/// quantize_4bit when dtype is one of its names; else qdq_weight_sym for the scheme "sym", qdq_weight_asym for others.
/// @throws Error also for bits < 1 with any dtype
QuantizedWeight qdq_weight_actor(const at::Tensor& weight, int64_t bits, const std::string& scheme, double quantile = 1,
                                 const std::string& dtype = "int", bool return_int = false, bool full_range = false,
                                 bool double_quant = false);

/// How scales are quantized themselves: all scales of the weight as one row, in groups (QLoRA's double quantization).
struct DoubleQuant {
  int64_t bits = 8;
  std::string dtype = "int";
  std::string scheme = "asym";  ///< "sym": qdq_weight_sym; others: the same on the scales less their mean
  int64_t group_size = 256;
  bool return_int = false;  ///< codes of the scales and what turns them back: see QuantizedWeight
};

/// Rounds groups of `group_size` columns by qdq_weight_actor; the columns that are left over are a group of their own.
/// @param bits <= 0: the weight is returned as it is
/// @param group_size -1, or more than the columns: whole rows
/// @param return_int codes, scale and zero point instead of values
/// @param double_quant the scales are quantized, too, and the values computed from these. Unlike upstream this also
///        holds for left over columns, "asym" adds the mean back when it is not named, and return_int works
QuantizedWeight quant_tensor(const at::Tensor& weight, int64_t bits = 4, int64_t group_size = -1,
                             const std::string& scheme = "asym", double quantile = 1, const std::string& dtype = "int",
                             bool return_int = false, bool full_range = false,
                             const c10::optional<DoubleQuant>& double_quant = c10::nullopt);

/// The quantile 1 - i / 200, i = 0 to 39, with which quant_tensor has the smallest mean squared error over the weight,
/// the largest of equals. The weight does not change. None when all errors are NaN.
c10::optional<double> search_clip(const at::Tensor& weight, int64_t bits = 4, int64_t group_size = 32,
                                  const std::string& scheme = "asym", const std::string& dtype = "int",
                                  bool enable_full_range = false);
/// The same for the weight of a layer. @throws Error also when the module has no tensor "weight"
c10::optional<double> search_clip(const torch::jit::Module& module, int64_t bits = 4, int64_t group_size = 32,
                                  const std::string& scheme = "asym", const std::string& dtype = "int",
                                  bool enable_full_range = false);

/// Codes of a weight whose scales are known: the weight becomes round(w / s + z), not clamped, or codes of 4-bit
/// levels. The zero point is added before rounding, so that codes half way may differ from quant_tensor's by one.
/// @param scale, zp [out, groups] as quant_tensor returns them
/// @param group_size -1: one group, and the result is the edited weight; else it is a new float32 tensor. (Upstream
///        returns zeros there for 4-bit levels.)
/// @throws Error also when there are more or fewer scales than groups
at::Tensor quant_weight_w_scale(const at::Tensor& weight, const at::Tensor& scale,
                                const c10::optional<at::Tensor>& zp = c10::nullopt, int64_t group_size = -1,
                                const std::string& dtype = "int");

// ---- Modules ----
//
// A module of TorchScript cannot be edited as in Python: its types and code are shared and compiled. Functions that
// change `model` make the handle hold a copy, which shares the tensors, and leave other handles of the module alone.
// The class of a module is the last part of its type's name ("Linear"), which files keep.

/// The input in its containers, whose types it keeps, with all tensors on the device. Other values stay.
c10::IValue move_input_to_device(const c10::IValue& input, at::Device device = at::kCPU);

/// Runs the model, without gradients, after moving it and the input to the device. A dictionary with texts as keys is
/// keyword arguments, a list or tuple the positional ones when forward takes them so, everything else one argument.
/// @throws Error kDataset when the model rejects the input, kBackendUnavailable when there is no such device
c10::IValue forward_wrapper(torch::jit::Module& model, const c10::IValue& input, at::Device device = at::kCPU);

/// Runs up to `iters` items of the data set, -1: all. A pair is (input, label), whose label is left out, when forward
/// takes its first element alone; every other item is a call. (Upstream tries one after the other and runs items again
/// after any exception.)
/// @throws Error as forward_wrapper; kInvalidArgument when iters is neither -1 nor above 0
void model_forward(torch::jit::Module& model, const Dataset& data, int64_t iters = -1, at::Device device = at::kCPU);

/// The input of item i, which is the second one by default, or of the last item. A pair is (input, label).
/// @throws Error kDataset for an empty data set, kInvalidArgument for negative i
Sample get_example_input(const Dataset& data, int64_t i = 1);

/// The module with this dotted name, "" for the model itself. A name that a module lacks is looked for in its children
/// "sq_linear", then "orig_layer".
/// @param strict false: names that are not there are skipped, as upstream does
/// @throws Error kInvalidArgument naming the step and the children that there are
torch::jit::Module get_module(const torch::jit::Module& model, const std::string& key, bool strict = true);
/// The same without looking into wrappers.
torch::jit::Module fetch_module(const torch::jit::Module& model, const std::string& op_name, bool strict = true);

/// Puts a module in the place of the one with this name; in a parent with "sq_linear" or "orig_layer" inside of that.
/// @param strict false: names before the last that are not there are skipped
/// @throws Error kInvalidArgument when there is no such module, or the model uses it in ways that the new one does not
///         allow (methods, their arguments and results, attributes)
void set_module(torch::jit::Module& model, const std::string& key, const torch::jit::Module& new_module,
                bool strict = true);

/// Name and length of the first torch.nn.ModuleList, depth first in the order of registration.
/// @throws Error kUnsupportedModel when there is none or it is empty
std::pair<std::string, int64_t> get_block_prefix(const torch::jit::Module& model);

/// What the first block of a model was called with, one entry per call of the model.
struct BlockInputs {
  /// Positional arguments. TorchScript binds keyword arguments and defaults to positions when it compiles.
  std::vector<std::vector<c10::IValue>> args;
};

/// Lets the first block of get_block_prefix record its arguments and stop: `model.forward` then returns None without
/// running the rest. Not for several threads at a time, and not for saving.
///
/// ```cpp
/// auto inputs = tsquant::replace_forward(module);
/// tsquant::model_forward(module, data);
/// tsquant::recover_forward(module);
/// for (const auto& args : inputs->args) ...
/// ```
/// @throws Error as get_block_prefix; kInvalidArgument when it was replaced before. The new forward throws
///         kUnsupportedModel when it ends without calling the block, as in files whose code is one inlined forward
std::shared_ptr<const BlockInputs> replace_forward(torch::jit::Module& model);
/// Makes `model` the module again that it was before replace_forward. What was recorded stays.
/// @throws Error kInvalidArgument when it was not replaced
void recover_forward(torch::jit::Module& model);

/// What is wanted of modules: "input", "output" or both, by their dotted names.
using ModuleHookConfig = std::map<std::string, std::vector<std::string>>;
using ValueFunction = std::function<c10::IValue(const c10::IValue&)>;
using CalibFunction = std::function<void(torch::jit::Module&)>;

/// What went into a module and came out, one entry per call. Values are not copied.
struct ModuleValues {
  std::string name;
  std::vector<c10::IValue> input;   ///< the first argument
  std::vector<c10::IValue> output;  ///< the result, of a tuple its first element
};

/// Runs the model and records what goes into modules and comes out, in the order in which they first end; modules that
/// are not called are left out. Further calls that a trace names forward1, forward2, ... count.
/// @param data, iters as model_forward, on the device of the model's first parameter
/// @param calib_func runs the model that it is given instead of data
/// @param input_func, output_func applied to what is recorded
/// @param strict false: modules that are not there are ignored, as upstream does
/// @throws Error kInvalidArgument: unknown modules (with the nearest) or words, not exactly one of data and calib_func;
///         kUnsupportedModel: none of the modules was called (as in files whose code is one inlined forward), or an
///         input is wanted of one without arguments; kDataset when the model rejects an item
std::vector<ModuleValues> get_module_input_output(const torch::jit::Module& model,
                                                  const ModuleHookConfig& module_hook_config,
                                                  const c10::optional<Dataset>& data = c10::nullopt, int64_t iters = -1,
                                                  const CalibFunction& calib_func = {},
                                                  const ValueFunction& input_func = {},
                                                  const ValueFunction& output_func = {}, bool strict = true);

// ---- Which layers can take a factor from others ----

/// The node that makes input 0 of a node, or all its inputs. Nothing is set for a node without inputs.
struct NodeParents {
  torch::jit::Node* node = nullptr;             ///< without all_parents
  std::vector<torch::jit::Value*> inputs = {};  ///< with all_parents
};
NodeParents get_parent(torch::jit::Node* node, bool all_parents = false);

/// Names of layers by the module that absorbs a factor on their input, in the order of execution.
using AbsorbTable = std::vector<std::pair<std::string, std::vector<std::string>>>;

struct AbsorbLayers {
  AbsorbTable absorb_to_layer;
  std::vector<std::string> no_absorb_layers;  ///< layers whose input nothing absorbs
  std::vector<std::string> warnings;
};

/// The linear layers (or other classes of GraphTrace's table) whose input comes from a norm or layer that could absorb
/// a factor, and that module. Layers and absorbers that `forward` of the model computes itself are left out, as
/// upstream does; its `folding`, which has no effect there, is left out, too.
/// @param example_inputs one call of the model. When it fails, the warnings say why, absorb_to_layer is empty and
///        no_absorb_layers holds all modules of class Linear
AbsorbLayers get_absorb_layers(const torch::jit::Module& model, const Sample& example_inputs,
                               const std::vector<std::string>& supported_layers = {"Linear"});
/// The same for an input as forward_wrapper takes it.
AbsorbLayers get_absorb_layers(const torch::jit::Module& model, const c10::IValue& example_inputs,
                               const std::vector<std::string>& supported_layers = {"Linear"});

/// The steps of get_absorb_layers, and the tables that they go by.
class GraphTrace {
 public:
  using Nodes = std::vector<torch::jit::Node*>;

  /// Operators of the classes that can absorb and be absorbed.
  std::map<std::string, std::string> supported_torch_module_to_aten = {
      {"Linear", "aten::linear"},          {"Conv2d", "aten::_convolution"},
      {"LayerNorm", "aten::layer_norm"},   {"ConvTranspose2d", "aten::_convolution"},
      {"GroupNorm", "aten::group_norm"},   {"InstanceNorm2d", "aten::instance_norm"},
      {"BatchNorm2d", "aten::batch_norm"}, {"LlamaRMSNorm", "aten::mul"},
      {"T5LayerNorm", "aten::mul"},        {"LPLayerNorm", "aten::layer_norm"}};
  /// f with f(a x) = a f(x) for a > 0, which may stand between.
  std::vector<std::string> skip_ops_to_find_absorb = {"aten::to", "aten::relu", "aten::leaky_relu", "aten::hardtanh"};
  /// What may absorb, and may read what absorbs.
  std::vector<std::string> could_absorb_layers = {"aten::layer_norm",   "aten::batch_norm", "aten::linear",
                                                  "aten::_convolution", "aten::group_norm", "aten::instance_norm",
                                                  "aten::mul"};
  /// What the methods remarked.
  std::vector<std::string> warnings;

  /// The model's forward as one graph with constant parameters, in evaluation mode; the scope of a node is the dotted
  /// name of its module. The model is run once. Control flow stays as blocks, all of which count (upstream's trace has
  /// the branches taken). Null, with a warning, when the model does not run or cannot be captured.
  std::shared_ptr<torch::jit::Graph> trace(const torch::jit::Module& model, const Sample& example_inputs);
  /// The nodes of these kinds in the order of execution. Convolutions of any spelling are aten::_convolution.
  Nodes get_nodes(torch::jit::Graph& graph, const std::vector<std::string>& op_types) const;
  /// For each node the one that could absorb a factor on its input 0, or null: behind skipped operators one of
  /// could_absorb_layers whose first output is read by such, or by skipped operators before such, alone. aten::size
  /// does not count.
  Nodes get_prev_absorb_layer(const Nodes& nodes) const;
  /// Whether all that reads the first output, through skipped operators, is in could_absorb_layers or aten::size.
  bool skip_op_absorb_helper(const torch::jit::Node* node) const;
  /// The operators of these classes, each once; unknown ones make a warning.
  std::vector<std::string> mapping_torch_module_to_aten(const std::vector<std::string>& op_types);
  /// None when trace gives none.
  /// @param skip_unsupported_layers remove_unsupported_layers
  c10::optional<AbsorbLayers> get_absorb_to_layer(const torch::jit::Module& model, const Sample& example_inputs,
                                                  const std::vector<std::string>& op_types,
                                                  bool skip_unsupported_layers = true);
  /// The table without the rows in which a module's class is not in supported_torch_module_to_aten, or a layer is a
  /// grouped, not depthwise Conv2d. Their layers are added to no_absorb_layers.
  AbsorbTable remove_unsupported_layers(const torch::jit::Module& model, const AbsorbTable& absorb_to_layer,
                                        std::vector<std::string>& no_absorb_layers) const;
};

}  // namespace tsquant
