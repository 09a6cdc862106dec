// FxQuantizer, prepare_fx and convert against what torch.ao 1.13.1 made of eight models in four configurations:
// tests/data/fx. The ninth model is trained: tests/unit/prepare/qat_golden_test.cpp.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <algorithm>
#include <map>
#include <set>

#include "fx_golden.h"
#include "support/support.h"
#include "tsquant/fx/quantize_fx.h"

namespace tsquant::testing::fx_models {
namespace {

using Json = nlohmann::json;

struct Case {
  std::string model, configuration;
};

void PrintTo(const Case& it, std::ostream* out) { *out << it.model << " " << it.configuration; }

/// Where TorchScript has one operator for what FX tells apart: FX's lines, ours, and why.
const std::map<std::string, Lines>& known_differences() {
  static const std::map<std::string, Lines> known{
      // Dropout does nothing after training: it shares the observer of its input.
      {"mlp",
       {"- body_2 makes @body_2", "+ body_2 makes @body_0", "- body_3 reads body_2 through @body_2",
        "+ body_3 reads body_2 through @body_0"}},
      // FX knows the function flatten, but not the method, which is the same operator here.
      {"functional",
       {"- flatten makes @flatten", "+ flatten makes @bn", "- transpose reads flatten through @flatten",
        "+ transpose reads flatten through @bn", "- transpose makes @flatten", "+ transpose makes @bn",
        "- fc reads transpose through @flatten", "+ fc reads transpose through @bn",
        "- transpose_1 reads transpose through @flatten", "+ transpose_1 reads transpose through @bn",
        "- transpose_1 makes @flatten", "+ transpose_1 makes @bn", "- matmul reads transpose_1 through @flatten",
        "+ matmul reads transpose_1 through @bn"}},
      // In FX 1.13 `cat_1.size(0)` takes the observers away from cat_1 and what follows.
      {"reshape_size_quirk",
       {"- cat_1 makes -", "+ cat_1 makes @c", "- gap reads cat_1 through -", "+ gap reads cat_1 through @c",
        "- gap makes -", "+ gap makes @c", "- reshape reads gap through -", "+ reshape reads gap through @c",
        "- reshape makes -", "+ reshape makes @c", "- fc reads reshape through -", "+ fc reads reshape through @c"}},
  };
  return known;
}

const char* class_of(const QuantizationSpec& spec) {
  if (spec.fixed_scale) return "FixedQParamsObserver";
  switch (spec.observer) {
    case ObserverKind::kMinMax:
      return "MinMaxObserver";
    case ObserverKind::kPerChannelMinMax:
      return "PerChannelMinMaxObserver";
    case ObserverKind::kHistogram:
      return "HistogramObserver";
    default:
      return "other";
  }
}

Json as_json(const QuantizationSpec& spec) {
  const bool is_symmetric = spec.mode == QuantizationScheme::kSymmetric;
  Json json{class_of(spec), spec.dtype == c10::kChar ? "qint8" : "quint8",
            std::string(spec.per_channel ? "per_channel" : "per_tensor") + (is_symmetric ? "_symmetric" : "_affine"),
            spec.quant_min.value_or(0), spec.quant_max.value_or(255)};
  if (spec.fixed_scale) json.insert(json.end(), {*spec.fixed_scale, *spec.fixed_zero_point});
  return json;
}

/// With more than one thread LibTorch chooses oneDNN's convolutions, as where the references were made.
class TwoThreads {
 public:
  TwoThreads() { at::set_num_threads(2); }
  ~TwoThreads() { at::set_num_threads(before_); }
  TwoThreads(const TwoThreads&) = delete;
  TwoThreads& operator=(const TwoThreads&) = delete;

 private:
  int before_ = at::get_num_threads();
};

class FxModels : public ::testing::TestWithParam<Case> {
 protected:
  at::Tensor tensor(const std::string& name) const { return data_.attr(name).toTensor(); }
  /// What torch.ao made in this configuration.
  std::string made(const std::string& name) const { return configuration_ + "_" + name; }
  const Json& golden() const { return fx_golden()["models"][model_]; }
  /// "tensors" or "weights"
  const Json& parameters(const std::string& part) const {
    const Json& all = fx_parameters()[model_][part];
    const Json& own = all[configuration_];
    return own.is_string() ? all[own.get<std::string>()] : own;
  }
  Model load() const { return Model::load(data_file("fx/" + model_ + ".pt")); }
  AnnotatedModel annotated() const {
    fx::FxQuantizer quantizer(mapping_of(configuration_));
    return AnnotatedModel(load(), quantizer, {});
  }
  torch::jit::Module calibrated() const {
    auto prepared = fx::prepare_fx(load(), mapping_of(configuration_), {{tensor("calib0")}, {}});
    const at::NoGradGuard no_grad;
    for (const char* name : {"calib0", "calib1", "calib2", "calib3"}) prepared.forward({tensor(name)});
    return prepared;
  }
  Sample test() const { return {{tensor("test")}, {}}; }

  const TwoThreads threads_;
  const std::string model_ = GetParam().model, configuration_ = GetParam().configuration;
  const torch::jit::Module data_ = torch::jit::load(data_file("fx/" + model_ + ".data.pt"));
};

TEST_P(FxModels, ObserversStandWhereTorchAoHasThem) {
  const auto known = known_differences().find(model_);
  const Lines expected = known == known_differences().end() ? Lines() : known->second;
  EXPECT_EQ(differences(golden_lines(golden()), our_lines(golden(), annotated())), expected);
}

TEST_P(FxModels, ObserversAreTorchAos) {
  std::set<Json> expected, ours;
  for (const auto& observer : golden()["observers"][configuration_]) {
    if (observer[1] != "qint8") expected.insert(observer);  // weights of layers have none in this list
  }
  for (const auto& point : annotated().annotations().points) {
    if (point.kind == PointKind::kActivation) ours.insert(as_json(point.spec));
  }
  EXPECT_EQ(ours, expected);
}

/// A model in reference form, read back: what stands on its edges.
class ReferenceGraph {
 public:
  ReferenceGraph(const Json& golden, Model& model) : model_(model), view_(model), names_(golden, view_) {}

  /// The quantizer of what `reader` reads from `producer`; null when it reads the tensor itself.
  const ViewNode* quantizer(const std::string& reader, const std::string& producer) const {
    const ViewNode &to = names_.first(reader), &from = names_.last(producer);
    for (const int64_t id : to.in_edges) {
      const ViewNode& before = view_.node(view_.edge(id).from);
      if (before.id == from.id) return nullptr;
      if (before.type != "dequantize") continue;
      const ViewNode& quantizer = input(before);
      if (!quantizer.in_edges.empty() && input(quantizer).id == from.id) return &quantizer;
    }
    ADD_FAILURE() << reader << " does not read " << producer;
    return nullptr;
  }

  const ViewNode& node(const std::string& name) const { return names_.first(name); }
  bool is_parameter(const std::string& name) const { return names_.first(name).kind == NodeKind::kParameter; }
  bool is_one_node(const std::string& a, const std::string& b) const { return &node(a) == &node(b); }

  /// The codes of this operator's weight.
  at::Tensor codes(const std::string& name) const {
    for (const int64_t id : node(name).in_edges) {
      const ViewNode* origin = &view_.node(view_.edge(id).from);
      while (origin->kind == NodeKind::kOperator && !origin->in_edges.empty()) origin = &input(*origin);
      if (origin->kind != NodeKind::kParameter) continue;
      const at::Tensor value = model_.module().attr(origin->name).toTensor();
      if (value.is_quantized()) return value.int_repr();
      if (value.scalar_type() == at::kByte) return value;
    }
    ADD_FAILURE() << name << " has no quantized weight";
    return {};
  }

  /// Gives a quantizer another scale.
  void set_scale(const ViewNode& quantizer, double scale) {
    const torch::jit::WithInsertPoint guard(quantizer.node);
    quantizer.node->replaceInput(1, model_.graph()->insertConstant(scale));
  }

 private:
  const ViewNode& input(const ViewNode& node) const { return view_.node(view_.edge(node.in_edges.at(0)).from); }

  Model& model_;
  GraphView view_;
  FxNames names_;
};

/// "reader reads producer through @observer"
struct Line {
  std::string text, reader, producer, observer;
};

/// The reading lines of golden_lines, with what is known to differ here.
std::vector<Line> reads_of(const std::string& model, const Json& golden) {
  Lines lines = golden_lines(golden);
  const auto known = known_differences().find(model);
  if (known != known_differences().end()) {
    for (size_t i = 0; i < known->second.size(); i += 2) {
      std::replace(lines.begin(), lines.end(), known->second[i].substr(2), known->second[i + 1].substr(2));
    }
  }
  std::vector<Line> result;
  for (const auto& text : lines) {
    const size_t reads = text.find(" reads "), through = text.find(" through ");
    if (reads == std::string::npos) continue;
    result.push_back({text, text.substr(0, reads), text.substr(reads + 7, through - reads - 7), text.substr(through + 9)});
  }
  return result;
}

/// The observer whose statistics are others: in FX it does not see cat_1 and what follows (known_differences).
bool sees_more(const std::string& model, const Line& line) {
  return model == "reshape_size_quirk" && line.observer == "@c";
}

TEST_P(FxModels, TensorsAreQuantizedWhereAndAsTorchAoDoes) {
  auto result = fx::convert_to_reference_fx(calibrated());
  const ReferenceGraph graph(golden(), result.model);
  int64_t quantized = 0;
  for (const auto& line : reads_of(model_, golden())) {
    SCOPED_TRACE(line.text);
    if (graph.is_parameter(line.producer) || graph.is_one_node(line.reader, line.producer)) continue;
    const ViewNode* quantizer = graph.quantizer(line.reader, line.producer);
    ASSERT_EQ(quantizer != nullptr, line.observer != "-");
    if (!quantizer) continue;
    EXPECT_EQ(quantizer->type, "quantize_per_tensor");
    const Json& expected = parameters("tensors").at(line.observer.substr(1));
    const auto inputs = quantizer->node->inputs();
    const double scale = torch::jit::toIValue(inputs[1])->toDouble();
    // Convolutions and sums round differently from one processor to the next.
    EXPECT_NEAR(scale / expected[0].get<double>(), 1, sees_more(model_, line) ? 2e-3 : 1e-6);
    EXPECT_EQ(torch::jit::toIValue(inputs[2])->toInt(), expected[1].get<int64_t>());
    ++quantized;
  }
  EXPECT_GE(quantized, 4);
}

TEST_P(FxModels, WeightsAreTheSameIntegers) {
  auto result = fx::convert_to_reference_fx(calibrated());
  const ReferenceGraph graph(golden(), result.model);
  const auto values = [](const Json& json) { return json.get<std::vector<double>>(); };
  for (const auto& [name, expected] : parameters("weights").items()) {
    SCOPED_TRACE(name);
    const std::string node = graph.node(name).name;
    const auto& records = result.report.quantizers;
    const auto record = std::find_if(records.begin(), records.end(), [&](const QuantizerRecord& it) {
      return it.kind == "weight" && it.node == node;
    });
    ASSERT_NE(record, records.end());
    const auto scale = values(expected[0]), zero_point = values(expected[1]);
    ASSERT_EQ(record->scale.size(), scale.size());
    for (size_t i = 0; i < scale.size(); ++i) {
      EXPECT_EQ(static_cast<float>(record->scale[i]), static_cast<float>(scale[i]));
      const double wanted = zero_point.size() == 1 ? zero_point[0] : zero_point[i];
      const bool is_float = !record->float_zero_point.empty();
      EXPECT_EQ(is_float ? record->float_zero_point[i] : static_cast<double>(record->zero_point[i]), wanted);
    }
    for (const std::string& attribute : {made("wint__" + name), made("wint__" + name + "_0")}) {
      if (data_.hasattr(attribute)) EXPECT_TRUE(at::equal(graph.codes(name), tensor(attribute)));
    }
  }
}

TEST_P(FxModels, TheReferenceModelComputesTheSame) {
  auto result = fx::convert_to_reference_fx(calibrated());
  ReferenceGraph graph(golden(), result.model);
  for (const auto& line : reads_of(model_, golden())) {
    if (line.observer == "-" || graph.is_parameter(line.producer) || graph.is_one_node(line.reader, line.producer)) continue;
    const ViewNode* quantizer = graph.quantizer(line.reader, line.producer);
    ASSERT_NE(quantizer, nullptr);
    graph.set_scale(*quantizer, parameters("tensors").at(line.observer.substr(1))[0].get<double>());
  }
  const at::Tensor actual = result.model.run(test()).toTensor();
  const at::Tensor error = (actual - tensor(made("reference_out"))).abs();
  EXPECT_LE(error.max().item<double>(), 1e-5);
  fmt::print("REF {} {} max {} share {}\n", model_, configuration_, error.max().item<double>(), (error > 1e-5).to(at::kFloat).mean().item<double>());
}

TEST_P(FxModels, TheLoweredModelIsWithinOneQuantum) {
  const auto prepared = calibrated();
  auto reference = fx::convert_to_reference_fx(prepared);
  const at::Tensor ref = reference.model.run(test()).toTensor();
  const ReferenceGraph graph(golden(), reference.model);
  for (const char* engine : {"tsquant", "qnnpack"}) {
    fx::ConvertFxOptions options;
    options.engine = engine;
    options.cost = LoweringCost::kOff;
    try {
    const auto lowered = fx::convert_fx(prepared, options);
    const at::Tensor actual = lowered.model.run(test()).toTensor();
    const std::string last = golden()["edges"].back()[1][0][0];
    const double quantum = parameters("tensors").contains(last) ? parameters("tensors")[last][0].get<double>() : -1;
    const at::Tensor error = (actual - tensor(made("lowered_out"))).abs();
    const at::Tensor error2 = (actual - tensor(made("reference_out"))).abs();
    const at::Tensor error3 = (actual - ref).abs();
    fmt::print("LOW {} {} {} max {} share {} ; vs golden ref {} vs our ref {} quantum of {}: {} gl-gr {} count {}\n", model_, configuration_, engine, error.max().item<double>() / quantum,
    (error > 1e-5).to(at::kFloat).mean().item<double>(), error2.max().item<double>() / quantum,error3.max().item<double>() / quantum,
    last, quantum, (tensor(made("lowered_out"))-tensor(made("reference_out"))).abs().max().item<double>()/quantum, lowered.report.quantized_count());
    } catch (const std::exception& e) { fmt::print("LOW {} {} {} {}\n", model_, configuration_, engine, e.what()); }
  }
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const auto& [model, golden] : fx_golden()["models"].items()) {
    for (const char* configuration : {"minmax", "onednn", "fbgemm", "qnnpack"}) result.push_back({model, configuration});
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(all, FxModels, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.model + "_" + info.param.configuration; });

}  // namespace
}  // namespace tsquant::testing::fx_models
