// Weights that are stored and nothing else: embeddings with floating-point zero points, layers in float16.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/tsquant.h>

#include <algorithm>
#include <sstream>

#include "graph/node_lists.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing::weight_only {
namespace {

constexpr OutputForm kForms[] = {OutputForm::kReference, OutputForm::kDecomposed, OutputForm::kFakeQuantize,
                                 OutputForm::kLowered};

at::Tensor table() {
  at::manual_seed(2);
  // The last rows lie far from zero and are constant.
  return at::cat({at::randn({17, 9}), at::rand({2, 9}) + 30, at::full({1, 9}, -1.5)});
}

at::Tensor indices() { return at::arange(20).reshape({4, 5}); }

Model model(const char* source) {
  at::manual_seed(4);
  return Model::from(define(source, {{"w", table()}, {"v", at::randn({6, 9})}, {"b", at::randn({6})}}));
}

const char* const kEmbedding = "def forward(self, x):\n    return torch.embedding(self.w, x)\n";

fx::QConfigMapping mapping_of(const fx::QConfig& qconfig) { return fx::QConfigMapping().set_global(qconfig); }

QuantizedModel converted(const Model& model, const fx::QConfigMapping& mapping, OutputForm form,
                         const at::Tensor& input = indices()) {
  ConvertPt2eOptions options;
  options.form = form;
  options.engine = form == OutputForm::kLowered ? "tsquant" : "";
  return convert_pt2e(fx::prepare_fx(model, mapping, {{input}, {}}), options);
}

at::Tensor run(const QuantizedModel& result, const at::Tensor& input = indices()) {
  return result.model.run({{input}, {}}).toTensor();
}

/// The table as torch.ao's reference modules have it.
at::Tensor torch_ao_table(c10::ScalarType dtype) {
  const at::Tensor w = table(), low = w.amin(1), high = w.amax(1);
  auto scale = (high - low) / (dtype == at::kQUInt8 ? 255.0 : 15.0);
  scale = at::where(scale > 1.1920928955078125e-07, scale, at::ones_like(scale));
  return at::quantize_per_channel(w, scale, -1 * low / scale, 0, dtype).dequantize();
}

int64_t bytes_of_weight(const QuantizedModel& result) {
  const auto weight = result.model.module().attr("w").toTensor();
  return static_cast<int64_t>(weight.nbytes());
}

struct Bits {
  fx::QConfig qconfig;
  c10::ScalarType dtype;
  int64_t row;  ///< bytes of a row in the lowered form
};

std::vector<Bits> both_widths() {
  return {{fx::float_qparams_weight_only_qconfig(), at::kQUInt8, 9},
          {fx::float_qparams_weight_only_qconfig_4bit(), at::kQUInt4x2, 5}};
}

TEST(WeightOnlyEmbedding, IsTorchAosReferenceInEveryForm) {
  for (const Bits& bits : both_widths()) {
    const at::Tensor expected = torch_ao_table(bits.dtype).index({indices()});
    for (const auto form : kForms) {
      const auto result = converted(model(kEmbedding), mapping_of(bits.qconfig), form);
      if (form == OutputForm::kFakeQuantize) {
        EXPECT_TRUE(at::allclose(run(result), expected, 1e-5, 1e-5));  // rounds the floats once more
      } else {
        EXPECT_TRUE(at::equal(run(result), expected)) << static_cast<int>(form);
      }
      result.save(temp_dir() + "/embedding.pt");  // loads it and compares
    }
  }
}

TEST(WeightOnlyEmbedding, LoweredFormReadsRowsOfCodesAndStaysSmallWhenFrozen) {
  for (const Bits& bits : both_widths()) {
    const auto result = converted(model(kEmbedding), mapping_of(bits.qconfig), OutputForm::kLowered);
    EXPECT_EQ(bytes_of_weight(result), 20 * bits.row);
    const std::string path = temp_dir() + "/lowered.pt";
    result.save(path);
    auto loaded = torch::jit::load(path);
    loaded.eval();
    const auto frozen = torch::jit::freeze(loaded);
    EXPECT_TRUE(at::equal(frozen.get_method("forward")({indices()}).toTensor(), run(result)));
    for (const auto* node : all_nodes(frozen.get_method("forward").graph()->block())) {
      if (node->kind() != c10::prim::Constant || node->output()->type()->kind() != c10::TypeKind::TensorType) continue;
      const at::Tensor constant = node->t(c10::attr::value);
      if (constant.is_floating_point()) EXPECT_EQ(constant.numel(), 20) << "scales and zero points alone";
    }
    EXPECT_EQ(result.report.nodes.at(0).kernel, "rows of codes (plain operators)");
    EXPECT_EQ(result.report.quantizers.at(0).float_zero_point.size(), 20U);
    EXPECT_TRUE(result.report.quantizers.at(0).zero_point.empty());
  }
}

TEST(WeightOnlyEmbedding, IndicesOutsideOfTheTableAreRefusedAsBefore) {
  const auto result = converted(model(kEmbedding), mapping_of(both_widths()[1].qconfig), OutputForm::kLowered);
  auto module = result.model.finished_module();
  EXPECT_ANY_THROW(module.forward({at::full({1}, 20, at::kLong)}));
  EXPECT_ANY_THROW(module.forward({at::full({1}, -1, at::kLong)}));
  EXPECT_EQ(module.forward({at::empty({0, 3}, at::kLong)}).toTensor().sizes(), (std::vector<int64_t>{0, 3, 9}));
  EXPECT_TRUE(at::equal(module.forward({indices().to(at::kInt)}).toTensor(), run(result)));
}

TEST(WeightOnlyEmbedding, BagsOfEveryModeAreThoseOfTheReference) {
  for (const char* mode : {"0", "1", "2"}) {
    const std::string source = std::string(R"(
def forward(self, x):
    bags = torch.embedding_bag(self.w, x.reshape([-1]), torch.arange(0, x.numel(), x.size(1)), False, )") +
                               mode + ")\n    return bags[0]\n";
    for (const Bits& bits : both_widths()) {
      const auto mapping = mapping_of(bits.qconfig);
      const auto reference = run(converted(model(source.c_str()), mapping, OutputForm::kReference));
      const auto lowered = converted(model(source.c_str()), mapping, OutputForm::kLowered);
      EXPECT_TRUE(at::allclose(run(lowered), reference, 1e-6, 1e-6)) << mode;
      EXPECT_EQ(bytes_of_weight(lowered), 20 * bits.row);
      lowered.save(temp_dir() + "/bag.pt");
    }
  }
}

TEST(WeightOnlyEmbedding, BagsLeaveOutTheirPaddingWithoutFloatsOfTheWholeTable) {
  const auto x = at::tensor({3, 7, 3, 19, 0, 3, 3, 3, 19, 3, 1, 19}, at::kLong).reshape({4, 3});
  for (const auto& [mode, padding] :
       std::vector<std::pair<int, int>>{{0, 3}, {1, 3}, {2, 3}, {0, -1}, {1, -1}, {2, -1}, {1, 5}}) {
    SCOPED_TRACE(fmt::format("mode {}, padding {}", mode, padding));
    const std::string source = fmt::format(R"(
def forward(self, x):
    offsets = torch.arange(0, x.numel(), x.size(1)).to(x.dtype)
    bags = torch.embedding_bag(self.w, x.reshape([-1]), offsets, False, {}, False, None, False, {})
    return bags[0]
)",
                                           mode, padding);
    for (const Bits& bits : both_widths()) {
      const auto mapping = mapping_of(bits.qconfig);
      const auto reference = run(converted(model(source.c_str()), mapping, OutputForm::kReference), x);
      const auto lowered = converted(model(source.c_str()), mapping, OutputForm::kLowered);
      EXPECT_TRUE(at::allclose(run(lowered, x), reference, 1e-6, 1e-6));
      EXPECT_TRUE(at::allclose(run(lowered, x.to(at::kInt)), reference, 1e-6, 1e-6));
      EXPECT_TRUE(at::allclose(run(lowered, x.slice(0, 1, 2)), reference.slice(0, 1, 2), 1e-6, 1e-6));
      EXPECT_EQ(bytes_of_weight(lowered), 20 * bits.row);
      const auto& nodes = lowered.report.nodes;
      EXPECT_EQ(std::count_if(nodes.begin(), nodes.end(),
                              [](const auto& node) { return node.kernel == "rows of codes (plain operators)"; }),
                1);
      lowered.save(temp_dir() + "/bag.pt");
    }
  }
}

TEST(WeightOnlyEmbedding, ATableThatALayerReadsTooIsStoredForBoth) {
  const char* source = "def forward(self, x):\n    return torch.linear(torch.embedding(self.w, x), self.w)\n";
  fx::QConfigMapping mapping;
  mapping.set_object_type("embedding", fx::float_qparams_weight_only_qconfig());
  mapping.set_object_type("linear", fx::per_channel_dynamic_qconfig());
  const auto expected = model(source).run({{indices()}, {}}).toTensor();
  for (const auto form : kForms) {
    const auto actual = run(converted(model(source), mapping, form));
    EXPECT_LT(((actual - expected).norm() / expected.norm()).item<double>(), 0.02) << static_cast<int>(form);
  }
}

TEST(WeightOnlyEmbedding, IsTrainedWithItsCodes) {
  for (const auto& qconfig : {fx::default_embedding_qat_qconfig(), fx::default_embedding_qat_qconfig_4bit()}) {
    auto prepared = fx::prepare_qat_fx(model(kEmbedding), mapping_of(qconfig), {{indices()}, {}});
    const auto trained = prepared.forward({indices()}).toTensor();
    EXPECT_TRUE(trained.requires_grad());
    EXPECT_FALSE(at::equal(trained, table().index({indices()})));
    ConvertPt2eOptions options;
    options.form = OutputForm::kReference;
    EXPECT_TRUE(at::allclose(run(convert_pt2e(prepared, options)), trained, 1e-5, 1e-5));
  }
}

TEST(Float16Weights, AreWrittenWithTheirBitsAfterTheyWereFloats) {
  const auto weight = at::cat({at::randn({5000}), at::tensor({0.0, 6e-8, 65504.0})}).to(at::kHalf);
  const auto run_op = [](const char* name, const c10::IValue& argument) {
    torch::jit::Stack stack{argument};
    c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(&stack);
    return stack.at(0);
  };
  const auto packed = run_op("tsquant::half_pack", weight);
  const auto floats = run_op("tsquant::half_floats", packed).toTensor();
  EXPECT_TRUE(at::equal(floats, weight.to(at::kFloat)));
  EXPECT_TRUE(run_op("tsquant::half_floats", packed).toTensor().is_same(floats)) << "converted again";
  torch::jit::Module module("m");
  module.register_attribute("packed", packed.type(), packed);
  std::stringstream before;
  module.save(before);
  EXPECT_LT(before.str().size(), 15000U);
  const auto loaded = torch::jit::load(before).attr("packed");
  EXPECT_TRUE(at::equal(run_op("tsquant::half_floats", loaded).toTensor(), floats));
  EXPECT_ANY_THROW(run_op("tsquant::half_pack", floats));
}

TEST(Float16Weights, ThatSeveralLayersReadAreOneObject) {
  const char* source =
      "def forward(self, x):\n    return torch.linear(x, self.v) + torch.linear(x * 2, self.v, self.b)\n";
  at::manual_seed(5);
  const auto input = at::randn({3, 9});
  const auto result = converted(model(source), mapping_of(fx::float16_dynamic_qconfig()), OutputForm::kLowered, input);
  int64_t objects = 0;
  for (const auto& attribute : result.model.module().named_attributes(false)) objects += attribute.value.isObject();
  EXPECT_EQ(objects, 1);
}

TEST(Float16Weights, AreRoundedAndComputedInFloat) {
  const char* source = "def forward(self, x):\n    return torch.linear(x, self.v, self.b)\n";
  at::manual_seed(5);
  const auto input = at::randn({3, 9});
  const auto mapping = mapping_of(fx::float16_dynamic_qconfig());
  const auto original = model(source);
  const auto attribute = [&](const char* name) { return original.module().attr(name).toTensor(); };
  const auto expected = at::linear(input, attribute("v").to(at::kHalf).to(at::kFloat), attribute("b"));
  for (const auto form : kForms) {
    const auto result = converted(original, mapping, form, input);
    EXPECT_TRUE(at::equal(run(result, input), expected)) << static_cast<int>(form);
    const bool is_lowered = form == OutputForm::kLowered;
    if (!is_lowered) EXPECT_EQ(result.model.module().attr("v").toTensor().scalar_type(), at::kHalf);
    EXPECT_EQ(nodes_of_kind(result.model.graph()->block(), {"tsquant::half_floats"}).size(), is_lowered ? 1U : 0U);
    EXPECT_EQ(result.report.quantizers.at(0).dtype, "float16");
    result.save(temp_dir() + "/half.pt");
  }
  const auto train = [&] { fx::prepare_qat_fx(original, mapping, {{input}, {}}); };
  EXPECT_NE(thrown_error(train).message().find("float16 cannot be trained"), std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing::weight_only
