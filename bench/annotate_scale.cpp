// How does placement grow with the graph? Chains with branches of 1,000, 10,000 and 100,000 operators, for every
// quantizer and one that a user writes node by node, and a trace of resnet50.
// usage: bench_annotate_scale [--benchmark_filter=...] [--benchmark_repetitions=5]; run it from the repository.
// Exit code 1 when 100,000 operators take over 5 s, resnet50 over 50 ms, or the time per operator grows from one size
// to the next by more than 1.5 for OpenVINOQuantizer, or 3 for the others (the fastest repetition counts). The others
// do so little per operator that most of it is fetching the graph: from the caches at 10,000 operators, from memory at
// 100,000. What grew with the square of the size would show 10.
#include <benchmark/benchmark.h>
#include <malloc.h>
#include <sys/wait.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/script.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <limits>
#include <memory>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

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

tsquant::Model make_model(int64_t operators) {
  torch::jit::Module module("__torch__.Chain");
  module.register_attribute("training", c10::BoolType::get(), false);
  module.register_parameter("weight", at::rand({4, 4, 1, 1}), false);
  module.register_parameter("wide", at::rand({4, 8, 1, 1}), false);
  const auto graph = GraphMaker(module.type()).make(operators);
  const auto name = c10::QualifiedName(*module.type()->name(), "forward");
  module.type()->addMethod(module._ivalue()->compilation_unit()->create_function(name, graph));
  return tsquant::Model::from(module);
}

/// The benchmark function runs several times, the graph is built once.
const tsquant::GraphView& view_of(int64_t operators) {
  static const tsquant::Model model = make_model(operators);
  static const tsquant::GraphView view(model);
  return view;
}

void annotate_with(benchmark::State& state, const tsquant::Quantizer& quantizer) {
  const tsquant::GraphView& view = view_of(state.range(0));
  size_t points = quantizer.annotate(view).points.size();  // and the heap holds the memory that the runs need
  for (auto _ : state) points = quantizer.annotate(view).points.size();
  state.counters["points"] = static_cast<double>(points);
  state.counters["ns_per_operator"] =
      benchmark::Counter(static_cast<double>(state.range(0)) * 1e-9,
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void annotate(benchmark::State& state) { annotate_with(state, tsquant::OpenVINOQuantizer()); }
BENCHMARK(annotate)->Arg(1000)->Arg(10000)->Arg(100000)->Unit(benchmark::kMillisecond);

/// With the pass that follows the solver for this device.
void annotate_cpu_spr(benchmark::State& state) {
  tsquant::OpenVINOQuantizerOptions options;
  options.target_device = tsquant::TargetDevice::kCpuSpr;
  annotate_with(state, tsquant::OpenVINOQuantizer(options));
}
BENCHMARK(annotate_cpu_spr)->Arg(1000)->Arg(10000)->Arg(100000)->Unit(benchmark::kMillisecond);

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

void annotate_fx(benchmark::State& state) { annotate_with(state, tsquant::fx::FxQuantizer()); }
BENCHMARK(annotate_fx)->Arg(1000)->Arg(10000)->Arg(100000)->Unit(benchmark::kMillisecond);

/// A quantizer as users write it, node by node: inputs of convolutions, and an addition whose result shares the
/// quantizer of the convolution above it.
class NodeByNode : public tsquant::Quantizer {
 public:
  tsquant::Annotations annotate(const tsquant::GraphView& view) const override {
    tsquant::Annotations annotations;
    for (const auto& node : view.nodes()) {
      tsquant::QuantizationAnnotation annotation;
      if (node.type == "conv2d") {
        annotation.input_qspec_map[0] = annotation.input_qspec_map[1] = tsquant::QuantizationSpec();
      } else if (node.type == "relu") {
        annotation.output_qspec = tsquant::QuantizationSpec();
      } else if (node.type == "add") {
        annotation.shared_output =
            tsquant::SharedQuantizationSpec{view.node(view.edge(node.in_edges[1]).from).name, ""};
      } else {
        continue;
      }
      tsquant::annotate_node(annotations, view, node.name, annotation);
    }
    return annotations;
  }
};

void annotate_node_by_node(benchmark::State& state) { annotate_with(state, NodeByNode()); }
BENCHMARK(annotate_node_by_node)->Arg(1000)->Arg(10000)->Arg(100000)->Unit(benchmark::kMillisecond);

void annotate_resnet50(benchmark::State& state) {
  const auto model = tsquant::Model::load("tests/data/traces/resnet50.pt");
  const tsquant::OpenVINOQuantizer quantizer;
  for (auto _ : state) {
    const tsquant::GraphView view(model);
    benchmark::DoNotOptimize(quantizer.annotate(view));
  }
}
BENCHMARK(annotate_resnet50)->Unit(benchmark::kMillisecond);

/// Prints as usual and keeps the fastest repetition, in seconds.
class FastestRun : public benchmark::ConsoleReporter {
 public:
  FastestRun() : ConsoleReporter(isatty(STDOUT_FILENO) ? OO_ColorTabular : OO_Tabular) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration || run.error_occurred) continue;
      const double seconds = run.real_accumulated_time / static_cast<double>(run.iterations);
      seconds_ = seconds_ > 0 ? std::min(seconds_, seconds) : seconds;
    }
    ConsoleReporter::ReportRuns(runs);
  }

  double seconds() const { return seconds_; }

 private:
  double seconds_ = 0;
};

/// Runs one benchmark in a process of its own, so that what the others left in the heap does not count.
/// @return its fastest repetition in seconds, 0 for a benchmark that was filtered out
double run_apart(const std::string& name) {
  const std::string filter = benchmark::GetBenchmarkFilter();
  if (!filter.empty() && !std::regex_search(name, std::regex(filter))) return 0;
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("no pipe");
  std::cout.flush();  // the new process would print it again
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("no process for " + name);
  double seconds = 0;
  if (child == 0) {
    FastestRun run;
    benchmark::RunSpecifiedBenchmarks(&run, "^" + name + "$");
    seconds = run.seconds();
    std::cout.flush();
    _exit(write(ends[1], &seconds, sizeof(seconds)) == sizeof(seconds) ? 0 : 1);
  }
  close(ends[1]);
  const bool ran = read(ends[0], &seconds, sizeof(seconds)) == sizeof(seconds);
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (!ran) throw std::runtime_error(name + " failed");
  return seconds;
}

bool holds(const std::string& what, double value, double limit) {
  std::cout << what << ": " << value << (value <= limit ? " (at most " : " EXCEEDS (at most ") << limit << ")\n";
  return value <= limit;
}

/// @param growth_limit of the time per operator from one size to the next
bool scales(const std::string& name, double growth_limit) {
  const double small = run_apart(name + "/1000"), middle = run_apart(name + "/10000"),
               large = run_apart(name + "/100000");
  bool held = holds(name + " 100000 operators, s", large, 5);
  if (small > 0 && middle > 0)
    held &= holds(name + " growth per operator 1k to 10k", middle / small / 10, growth_limit);
  if (middle > 0 && large > 0)
    held &= holds(name + " growth per operator 10k to 100k", large / middle / 10, growth_limit);
  return held;
}

}  // namespace

int main(int argc, char** argv) {
  // Every size finds memory that the process owns already: what the kernel takes to hand out pages is not counted.
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_MMAP_MAX, 0);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  bool held = scales("annotate", 1.5);
  held &= scales("annotate_cpu_spr", 1.5);
  for (const std::string name : {"annotate_x86_inductor", "annotate_xnnpack", "annotate_fx", "annotate_node_by_node"}) {
    held &= scales(name, 3);
  }
  held &= holds("resnet50, s", run_apart("annotate_resnet50"), 0.05);
  return held ? 0 : 1;
}
