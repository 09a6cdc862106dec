#include "quantizers/openvino/pattern.h"

namespace tsquant::openvino {

namespace {

const MetatypeSet& linear_ops() {
  static const MetatypeSet set = MetatypeSet{"Linear",
                                             "Conv1d",
                                             "PTDepthwiseConv1dSubtype",
                                             "Conv2d",
                                             "PTDepthwiseConv2dSubtype",
                                             "Conv3d",
                                             "PTDepthwiseConv3dSubtype",
                                             "ConvTranspose1d",
                                             "ConvTranspose2d",
                                             "ConvTranspose3d",
                                             "DeformConv2d",
                                             "MatMul",
                                             "Addmm"};
  return set;
}

/// NNCF's RELU group is this very list too: merging the groups extends the first one in place.
const MetatypeSet& atomic_activations() {
  static const MetatypeSet set{"RELU", "HardTanh", "ELU",         "PRELU",     "LeakyRELU", "Sigmoid",
                               "GELU", "SILU",     "HardSigmoid", "HardSwish", "SELU"};
  return set;
}

const MetatypeSet& arithmetic_ops() {
  static const MetatypeSet set{"Add", "Sub", "Mul", "Div"};
  return set;
}

Pattern single(const MetatypeSet& metatypes) {
  Pattern pattern;
  pattern.add(metatypes);
  return pattern;
}

Pattern line(const std::vector<MetatypeSet>& steps) {
  Pattern pattern;
  for (const auto& step : steps) {
    const int node = pattern.add(step);
    if (node > 0) pattern.connect(node - 1, node);
  }
  return pattern;
}

/// x * sigmoid(x)
Pattern swish() {
  Pattern pattern;
  const int input = pattern.add_any(), sigmoid = pattern.add({"Sigmoid"}), mul = pattern.add({"Mul"});
  pattern.chain({input, sigmoid, mul});
  pattern.connect(input, mul);
  return pattern;
}

/// x * clip(x + c) / d; the division before or after the multiplication
Pattern hard_swish(const MetatypeSet& clip, bool divide_first) {
  Pattern pattern;
  const int input = pattern.add_any(), add = pattern.add({"Add"}), clipped = pattern.add(clip);
  const int div = pattern.add({"Div"}), mul = pattern.add({"Mul"});
  if (divide_first) {
    pattern.chain({input, add, clipped, div, mul});
  } else {
    pattern.chain({input, add, clipped, mul, div});
  }
  pattern.connect(input, mul);
  return pattern;
}

/// clip(x + c) / d
Pattern hard_sigmoid(const MetatypeSet& clip) {
  Pattern pattern;
  pattern.chain({pattern.add_any(), pattern.add({"Add"}), pattern.add(clip), pattern.add({"Div"})});
  return pattern;
}

std::vector<Pattern> activations() {
  const MetatypeSet hardtanh{"HardTanh"}, relu6{"RELU6"};
  return {single(atomic_activations()), swish(),
          hard_swish(hardtanh, true),   hard_swish(hardtanh, false),
          hard_swish(relu6, false),     hard_swish(relu6, true),
          hard_sigmoid(hardtanh),       hard_sigmoid(relu6)};
}

/// x / (sqrt(sum(x^2)) + eps) * w
Pattern l2_norm() {
  Pattern pattern;
  const int input = pattern.add_any();
  const int pow = pattern.add({"Power"}), sum = pattern.add({"Sum"}), sqrt = pattern.add({"Sqrt"});
  const int add = pattern.add({"Add"}), div = pattern.add({"Div"}), mul = pattern.add({"Mul"});
  pattern.chain({input, pow, sum, sqrt, add, div, mul});
  pattern.connect(input, div);
  return pattern;
}

/// The same linear operator feeding both arguments of one arithmetic operator.
Pattern linear_arithmetic_twice() {
  Pattern pattern;
  const int linear = pattern.add(linear_ops()), arithmetic = pattern.add(arithmetic_ops());
  pattern.connect(linear, arithmetic);
  pattern.connect(linear, arithmetic);
  return pattern;
}

std::vector<Pattern> make_fused_patterns() {
  const Pattern linear = single(linear_ops()), arithmetic = single(arithmetic_ops());
  const std::vector<Pattern> bn = {single({"BatchNorm"})};
  const auto act = activations();
  const Pattern shift_scale = line({{"Add", "Sub"}, {"Mul", "Div"}});
  std::vector<Pattern> all = {l2_norm(),
                              shift_scale,
                              single({"InputNoop"}).then(shift_scale),
                              linear.then(arithmetic),
                              linear_arithmetic_twice(),
                              linear.then(shift_scale)};
  const auto append = [&all](const std::vector<Pattern>& patterns) {
    all.insert(all.end(), patterns.begin(), patterns.end());
  };
  append(join(bn, act));
  append(join(act, bn));
  append(join({linear}, bn));
  append(join({linear}, act));
  append(join(join({linear}, bn), act));
  append(join(join({linear}, act), bn));
  append(join({arithmetic}, bn));
  append(join({arithmetic}, act));
  append(join(join({arithmetic}, bn), act));
  append(join(join({arithmetic}, act), bn));
  append({single({"GroupNorm"}).then(single(atomic_activations()))});
  append({line({{"Linear"}, {"Mul"}})});
  return all;
}

/// softmax -> [reshape] -> matmul <- reshape, gather, transpose or concat
Pattern attention_output(bool with_reshape) {
  const MetatypeSet moves{"Reshape", "Squeeze", "Split", "Transpose"};
  Pattern pattern;
  const int softmax = pattern.add({"Softmax"});
  const int reshape = with_reshape ? pattern.add(moves) : softmax;
  const int matmul = pattern.add(matmul_metatypes());
  const int branch = pattern.add(moves | MetatypeSet{"Gather", "Cat"});
  if (with_reshape) pattern.connect(softmax, reshape);
  pattern.connect(reshape, matmul);
  pattern.connect(branch, matmul);
  return pattern;
}

/// Squeeze and excitation: x * sigmoid(linear(act(linear(pool(x)))))
Pattern squeeze_excitation(bool with_bias, bool with_reshape) {
  const MetatypeSet bias{"Add", "Sub"}, reshape{"Reshape"};
  Pattern pattern;
  const int input = pattern.add_any();
  std::vector<int> steps = {input, pattern.add_excluded({"AvgPool2d", "AvgPool3d", "Mean"})};
  if (with_reshape) steps.push_back(pattern.add(reshape));
  for (const auto& activation : {atomic_activations(), MetatypeSet{"Sigmoid", "HardSigmoid"}}) {
    steps.push_back(pattern.add(linear_ops()));
    if (with_bias) steps.push_back(pattern.add(bias));
    steps.push_back(pattern.add(activation));
  }
  if (with_reshape) steps.push_back(pattern.add(reshape));
  steps.push_back(pattern.add_excluded({"Mul"}));
  pattern.chain(steps);
  pattern.connect(input, steps.back());
  return pattern;
}

/// Rotary embedding: matmul -> transpose -> cat -> cos and sin
Pattern rotary_embedding() {
  Pattern pattern;
  const int matmul = pattern.add({"MatMul"}), transpose = pattern.add({"Transpose"}), cat = pattern.add({"Cat"});
  const int cos = pattern.add({"Cos"}), sin = pattern.add({"Sin"});
  pattern.chain({matmul, transpose, cat, cos});
  pattern.connect(cat, sin);
  return pattern;
}

/// Positional encoding of SAM: matmul -> mul -> cos and sin -> cat
Pattern sam_positions() {
  Pattern pattern;
  const int matmul = pattern.add({"MatMul"}), mul = pattern.add({"Mul"});
  const int cos = pattern.add({"Cos"}), sin = pattern.add({"Sin"}), cat = pattern.add({"Cat"});
  pattern.chain({matmul, mul, cos, cat});
  pattern.chain({mul, sin, cat});
  return pattern;
}

}  // namespace

const std::vector<Pattern>& fused_patterns() {
  static const std::vector<Pattern> patterns = make_fused_patterns();
  return patterns;
}

std::vector<Pattern> ignored_patterns(bool transformer, bool attention) {
  std::vector<Pattern> patterns;
  if (transformer && attention) patterns = {attention_output(false), attention_output(true)};
  for (const bool reshape : {false, true}) {
    for (const bool bias : {false, true}) patterns.push_back(squeeze_excitation(bias, reshape));
  }
  if (transformer) {
    patterns.push_back(rotary_embedding());
    patterns.push_back(sam_positions());
  }
  return patterns;
}

}  // namespace tsquant::openvino
