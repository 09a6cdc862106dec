#include "compression/refine_layer.h"

#include <gtest/gtest.h>
#include <torch/script.h>

#include <cmath>

#include "algorithms_golden.h"
#include "compression/gptq.h"
#include "compression/output_error.h"
#include "compression/round_to_nearest.h"
#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

/// One start and damping: nothing to choose.
RefineOptions fixed_options(int rounds = 2) {
  RefineOptions options;
  options.starts = {RefineStart::kSearched};
  options.dampings = {0.01};
  options.rounds = rounds;
  return options;
}

double error_of(const CorrelatedLayer& layer, const CompressedWeight& compressed) {
  return relative_output_error(layer.weight, decompress(compressed), layer.hessian);
}

TEST(Refine, EveryStepLowersTheObjectiveInEveryFormat) {
  const CorrelatedLayer layer(10, 64);
  for (const auto& spec : every_spec()) {
    SCOPED_TRACE(to_string(spec.format));
    RefineRecord record;
    const auto result = refine(layer.weight, spec, layer.moments, nullptr, fixed_options(), &record);
    expect_valid(result);
    ASSERT_EQ(record.objectives.size(), format_info(spec.format).bits <= 3 ? 7u : 5u);
    for (size_t i = 1; i < record.objectives.size(); ++i) EXPECT_LE(record.objectives[i], record.objectives[i - 1]);
    EXPECT_LT(record.objectives.back(), record.objectives.front());
    EXPECT_GE(record.rounds, 1);
    EXPECT_NEAR(record.error.after, error_of(layer, result), 1e-6);
    EXPECT_NEAR(record.error.before, error_of(layer, round_to_nearest(layer.weight, spec)), 1e-6);
    EXPECT_LT(record.error.after, 0.9 * record.error.before);
    EXPECT_EQ(record.damping, 0.01);
    EXPECT_EQ(record.rows, 1000);
    EXPECT_TRUE(record.notes.empty()) << record.notes.front();
  }
}

// The bars: 0.65, 0.65 and 0.55 of the error of NNCF's GPTQ at 4, 3 and 2 bits.
TEST(Refine, BeatsNncfsGptqOnCorrelatedInputs) {
  struct Bar {
    Format format;
    bool asymmetric;
    double most;
  };
  for (const Bar& bar :
       {Bar{Format::kInt4, false, 0.65}, Bar{Format::kInt3, true, 0.65}, Bar{Format::kInt2, true, 0.55}}) {
    double refined = 0, nncf = 0;
    for (const uint64_t seed : {1, 2}) {
      const CorrelatedLayer layer(24, 128, 1000, seed);
      const auto spec = group_spec(bar.format, 32, bar.asymmetric);
      refined += error_of(layer, refine(layer.weight, spec, layer.moments, nullptr, fixed_options()));
      nncf += gptq(layer.weight, spec, layer.hessian).error.after;
    }
    EXPECT_LE(refined, bar.most * nncf) << to_string(bar.format);
  }
}

TEST(Refine, BeatsNncfsGptqOnItsOwnReferenceData) {
  int compared = 0;
  const AlgorithmsGolden& golden = algorithms_goldens().front();
  for (const auto& result : golden.cases("gptq")) {
    const GoldenLayer& layer = golden.layer(result);
    InputMoments moments;
    moments.add(layer.rows());
    const auto spec = spec_of_mode(result["mode"], result["group_size"], 1);
    RefineRecord record;
    refine(layer.weight, spec, moments, nullptr, fixed_options(), &record);
    const double nncf =
        relative_output_error(layer.weight, golden.array(result, "quantized_dequantized_weight"), moments.hessian());
    EXPECT_LT(record.error.after, 0.8 * nncf) << result["key"];
    ++compared;
  }
  EXPECT_GT(compared, 5);
}

TEST(Refine, EveryOptionHasAnEffect) {
  const CorrelatedLayer layer(24, 64);
  const auto spec = group_spec(Format::kInt2, 16, true);
  const auto with = [&](const RefineOptions& options) {
    return refine(layer.weight, spec, layer.moments, nullptr, options);
  };
  const auto plain = with(fixed_options());
  const double error = error_of(layer, plain);
  EXPECT_LT(error, error_of(layer, with(fixed_options(1))));
  EXPECT_LT(error_of(layer, with(fixed_options(1))), error_of(layer, with(fixed_options(0))));
  auto options = fixed_options();
  options.sweeps = 4;
  EXPECT_LT(error_of(layer, with(options)), error);
  options = fixed_options();
  options.refit = false;
  const auto without_refit = with(options);
  EXPECT_GT(error_of(layer, without_refit), error);
  options.groups = false;
  const auto codes_alone = with(options);
  options.rounds = 0;
  EXPECT_TRUE(at::equal(with(options).qparams.scale, codes_alone.qparams.scale));
  options = fixed_options();
  options.groups = false;
  EXPECT_GT(error_of(layer, with(options)), error);
  options = fixed_options();
  options.zero_points = false;
  EXPECT_FALSE(at::equal(with(options).qparams.zero_point, plain.qparams.zero_point));
  options = fixed_options();
  options.act_order = false;
  EXPECT_FALSE(same_bits(with(options), plain));
  options = fixed_options();
  options.dampings = {1};
  EXPECT_FALSE(same_bits(with(options), plain));
  options = fixed_options();
  options.starts = {RefineStart::kMinMax};
  EXPECT_FALSE(same_bits(with(options), plain));
  options = fixed_options();
  options.search.steps = 2;
  EXPECT_FALSE(same_bits(with(options), plain));
  options = fixed_options();
  options.block_size = 5;
  EXPECT_NEAR(error_of(layer, with(options)), error, 0.1 * error);
  options = fixed_options();
  options.scale_type = at::kHalf;
  const auto half = with(options).qparams.scale;
  EXPECT_TRUE(at::equal(half.to(at::kHalf).to(at::kFloat), half));
}

TEST(Refine, ChoosesStartAndDampingOnHeldOutRows) {
  const CorrelatedLayer layer(24, 64, /*count=*/100);
  const auto spec = group_spec(Format::kInt2, 32, true);
  RefineOptions options;
  RefineRecord record;
  double lowest = INFINITY;
  for (const auto start : {RefineStart::kSearched, RefineStart::kMinMax}) {
    for (const double damping : {0.01, 1.0}) {
      options.starts = {start};
      options.dampings = {damping};
      refine(layer.weight, spec, layer.moments, &layer.held_out, options, &record);
      lowest = std::min(lowest, record.held_out.after);
    }
  }
  options.starts = {RefineStart::kSearched, RefineStart::kMinMax};
  options.dampings = {0.01, 1.0};
  const auto chosen = refine(layer.weight, spec, layer.moments, &layer.held_out, options, &record);
  EXPECT_EQ(record.held_out.after, lowest);
  EXPECT_NEAR(record.held_out.after, relative_output_error(layer.weight, decompress(chosen), layer.held_out.hessian()),
              1e-7);
  const double before = record.held_out.before;
  EXPECT_LT(record.held_out.after, before);
  EXPECT_TRUE(record.notes.empty());
  // 100 rows are enough: the damping is the first.
  options.enough_rows = 1;
  options.dampings = {1.0, 0.01};
  refine(layer.weight, spec, layer.moments, &layer.held_out, options, &record);
  EXPECT_EQ(record.damping, 1.0);
  // Judged by one output.
  options.trial_rows = 1;
  refine(layer.weight, spec, layer.moments, &layer.held_out, options, &record);
  EXPECT_NE(record.held_out.before, before);
}

TEST(Refine, HeldOutRowsMayCountOnceTheyHaveJudged) {
  const CorrelatedLayer layer(24, 64, /*count=*/100);
  const auto spec = group_spec(Format::kInt2, 32, true);
  InputMoments all;
  all.merge(layer.moments);
  all.merge(layer.held_out);
  const auto hessian = all.hessian();
  RefineOptions options;
  RefineRecord record, judged;
  const auto apart = refine(layer.weight, spec, layer.moments, &layer.held_out, options, &judged);
  options.all_rows = true;
  const auto together = refine(layer.weight, spec, layer.moments, &layer.held_out, options, &record);
  EXPECT_EQ(record.rows, 200);
  EXPECT_EQ(record.start, judged.start);
  EXPECT_EQ(record.damping, judged.damping);
  EXPECT_NEAR(record.held_out.before, judged.held_out.before, 1e-9);
  EXPECT_NEAR(record.held_out.after, judged.held_out.after, 1e-6) << "of the result that had not seen these rows";
  const double error = relative_output_error(layer.weight, decompress(together), hessian);
  EXPECT_NEAR(record.error.after, error, 1e-5 * error);
  EXPECT_LT(error, relative_output_error(layer.weight, decompress(apart), hessian));
  // Enough are enough.
  options.enough_rows = 1;
  refine(layer.weight, spec, layer.moments, &layer.held_out, options, &record);
  EXPECT_EQ(record.rows, 100);
  // Without held-out rows there is nothing to add.
  const auto alone = refine(layer.weight, spec, layer.moments, nullptr, options, &record);
  EXPECT_EQ(record.rows, 100);
  EXPECT_GT(relative_output_error(layer.weight, decompress(alone), hessian), error);
}

TEST(Refine, SaysWhatItFellBackTo) {
  const auto spec = group_spec(Format::kInt4, 16);
  const auto has_note = [](const RefineRecord& record, const std::string& text) {
    return std::any_of(record.notes.begin(), record.notes.end(),
                       [&](const std::string& note) { return note.find(text) != std::string::npos; });
  };
  RefineRecord record;
  const CorrelatedLayer layer(8, 32);
  refine(layer.weight, spec, layer.moments, nullptr, {}, &record);
  EXPECT_TRUE(has_note(record, "no held-out rows"));
  EXPECT_EQ(record.start, RefineStart::kSearched);

  const CorrelatedLayer wide(2, 288, 400);
  refine(wide.weight, group_spec(Format::kInt2, 288), wide.moments, nullptr, fixed_options(), &record);
  EXPECT_TRUE(has_note(record, "groups of 288 inputs are too large for group descent"));

  // Few rows, dead inputs, and held-out rows of another kind: rounding is better for these.
  CorrelatedLayer odd(8, 32, 4);
  odd.rows.narrow(1, 4, 3).zero_();
  InputMoments moments, others;
  moments.add(odd.rows);
  others.add(at::eye(32));
  const auto kept = refine(odd.weight, spec, moments, &others, fixed_options(), &record);
  EXPECT_TRUE(has_note(record, "round_to_nearest was kept"));
  EXPECT_TRUE(has_note(record, "4 rows of calibration data for 32 inputs"));
  EXPECT_TRUE(has_note(record, "3 inputs are always 0"));
  EXPECT_EQ(record.dead_columns, 3);
  EXPECT_TRUE(same_bits(kept, round_to_nearest(odd.weight, spec)));
  EXPECT_EQ(record.held_out.after, record.held_out.before);
  EXPECT_EQ(record.error.after, record.error.before);
}

TEST(Refine, TransposedWeightsAndChannelsGiveTheSame) {
  const CorrelatedLayer layer(12, 32);
  auto along = group_spec(Format::kInt4, 16), across = along;
  across.group_axis = 0;
  const auto a = refine(layer.weight, along, layer.moments, nullptr, fixed_options());
  const auto b = refine(layer.weight.t(), across, layer.moments, nullptr, fixed_options());
  EXPECT_TRUE(at::equal(a.codes, b.codes.t()));
  EXPECT_TRUE(at::equal(a.qparams.scale, b.qparams.scale.t()));
  QuantizationSpec channels;
  channels.format = Format::kInt4;
  channels.per_channel = true;
  along.group_size = 32;
  const auto c = refine(layer.weight, channels, layer.moments, nullptr, fixed_options());
  const auto d = refine(layer.weight, along, layer.moments, nullptr, fixed_options());
  EXPECT_TRUE(at::equal(c.codes, d.codes));
  EXPECT_TRUE(c.qparams.per_channel);
  EXPECT_EQ(c.qparams.scale.sizes(), at::IntArrayRef({12}));
}

TEST(Refine, ThreadsDoNotMatter) {
  const CorrelatedLayer layer(300, 48, 200);
  const auto spec = group_spec(Format::kInt3, 16, true);
  RefineRecord one, three;
  const auto result_on = [&](int threads, RefineRecord& record) {
    return on_threads(threads, [&] {
      InputMoments moments, held_out;
      moments.add(layer.rows);
      held_out.add(layer.other_rows);
      return refine(layer.weight, spec, moments, &held_out, {}, &record);
    });
  };
  EXPECT_TRUE(same_bits(result_on(1, one), result_on(3, three)));
  EXPECT_EQ(one.objectives, three.objectives);
  EXPECT_EQ(one.held_out.after, three.held_out.after);
}

TEST(Refine, RefusesWrongArguments) {
  const CorrelatedLayer layer(4, 32);
  const auto code_of = [&](const RefineOptions& options, const at::Tensor& weight, const InputMoments& moments) {
    return thrown_error([&] { refine(weight, group_spec(Format::kInt4, 16), moments, nullptr, options); }).code();
  };
  const auto refused = [&](const std::function<void(RefineOptions&)>& change) {
    auto options = fixed_options();
    change(options);
    return code_of(options, layer.weight, layer.moments) == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](RefineOptions& o) { o.starts.clear(); }));
  EXPECT_TRUE(refused([](RefineOptions& o) { o.dampings.clear(); }));
  EXPECT_TRUE(refused([](RefineOptions& o) { o.dampings = {-1}; }));
  EXPECT_TRUE(refused([](RefineOptions& o) { o.enough_rows = 0; }));
  EXPECT_TRUE(refused([](RefineOptions& o) { o.rounds = -1; }));
  EXPECT_TRUE(refused([](RefineOptions& o) { o.sweeps = 0; }));
  EXPECT_TRUE(refused([](RefineOptions& o) { o.block_size = 0; }));
  EXPECT_TRUE(refused([](RefineOptions& o) { o.trial_rows = 0; }));
  EXPECT_TRUE(refused([](RefineOptions& o) { o.search.steps = 0; }));
  EXPECT_TRUE(refused([](RefineOptions& o) { o.scale_type = at::kLong; }));
  EXPECT_EQ(code_of(fixed_options(), at::ones({4, 16}), layer.moments), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(fixed_options(), layer.weight, InputMoments()), ErrorCode::kInvalidArgument);
  InputMoments bad;
  bad.add(at::full({2, 32}, NAN));
  EXPECT_EQ(code_of(fixed_options(), layer.weight, bad), ErrorCode::kCalibration);
}

}  // namespace
}  // namespace tsquant::testing
