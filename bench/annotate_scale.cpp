// How does placement grow with the graph? Chains with branches of 1,000, 10,000 and 100,000 operators.
// usage: bench_annotate_scale [--benchmark_filter=...]; the target is at most 5 s for 100,000 operators, growing
// linearly, for every quantizer.
#include <benchmark/benchmark.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/script.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>

#include <map>
#include <memory>

namespace {

using torch::jit::Graph;
using torch::jit::Value;

/// Residual blocks: conv -> relu -> add with the block's input, every eighth block with a concatenation and pooling.
class GraphMaker {
 public:
  explicit GraphMaker(const c10::TypePtr& self) : graph_(std::make_shared<Graph>()) {
    Value* module = graph_->addInput("self")->setType(self);
    x_ = graph_->addInput("x");
    weight_ = graph_->insertGetAttr(module, "weight");
    wide_ = graph_->insertGetAttr(module, "wide");
  }

  std::shared_ptr<Graph> make(int64_t operators) {
    for (int64_t block = 0; count_ < operators; ++block) {
      Value* branch = call("relu", {convolution(x_, weight_)});
      x_ = call("add", {x_, branch, graph_->insertConstant(1)});
      if (block % 8 != 7) continue;
      Value* pooled = call("sigmoid", {x_});
      Value* list = graph_->insertNode(graph_->createList(c10::TensorType::get(), {x_, pooled}))->output();
      x_ = convolution(call("cat", {list, graph_->insertConstant(1)}), wide_);
    }
    graph_->registerOutput(x_);
    return graph_;
  }

 private:
  Value* call(const std::string& name, const std::vector<Value*>& inputs) {
    ++count_;
    return graph_->insertNode(graph_->create(c10::Symbol::aten(name), inputs))->output();
  }

  Value* convolution(Value* x, Value* weight) {
    const auto pair = [this](int64_t value) { return graph_->insertConstant(std::vector<int64_t>{value, value}); };
    return call("conv2d", {x, weight, graph_->insertConstant(torch::jit::IValue()), pair(1), pair(0), pair(1),
                           graph_->insertConstant(1)});
  }

  std::shared_ptr<Graph> graph_;
  Value *x_, *weight_, *wide_;
  int64_t count_ = 0;
};

const tsquant::Model& model_of(int64_t operators) {
  static std::map<int64_t, std::unique_ptr<tsquant::Model>> models;
  auto& model = models[operators];
  if (!model) {
    torch::jit::Module module("__torch__.Chain" + std::to_string(operators));
    module.register_attribute("training", c10::BoolType::get(), false);
    module.register_parameter("weight", at::rand({4, 4, 1, 1}), false);
    module.register_parameter("wide", at::rand({4, 8, 1, 1}), false);
    const auto graph = GraphMaker(module.type()).make(operators);
    const auto name = c10::QualifiedName(*module.type()->name(), "forward");
    module.type()->addMethod(module._ivalue()->compilation_unit()->create_function(name, graph));
    model = std::make_unique<tsquant::Model>(tsquant::Model::from(module));
  }
  return *model;
}

void annotate_with(benchmark::State& state, const tsquant::Quantizer& quantizer) {
  const tsquant::GraphView view(model_of(state.range(0)));
  size_t points = 0;
  for (auto _ : state) points = quantizer.annotate(view).points.size();
  state.counters["points"] = static_cast<double>(points);
  state.counters["ns_per_operator"] =
      benchmark::Counter(static_cast<double>(state.range(0)) * 1e-9,
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void annotate(benchmark::State& state) { annotate_with(state, tsquant::OpenVINOQuantizer()); }
BENCHMARK(annotate)->Arg(1000)->Arg(10000)->Arg(100000)->Unit(benchmark::kMillisecond);

void annotate_x86_inductor(benchmark::State& state) {
  tsquant::X86InductorQuantizer quantizer;
  quantizer.set_global(tsquant::get_default_x86_inductor_quantization_config());
  annotate_with(state, quantizer);
}
BENCHMARK(annotate_x86_inductor)->Arg(1000)->Arg(10000)->Arg(100000)->Unit(benchmark::kMillisecond);

void annotate_xnnpack(benchmark::State& state) {
  tsquant::XNNPACKQuantizer quantizer;
  quantizer.set_global(tsquant::get_symmetric_quantization_config());
  annotate_with(state, quantizer);
}
BENCHMARK(annotate_xnnpack)->Arg(1000)->Arg(10000)->Arg(100000)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
