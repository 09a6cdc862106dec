#include "kernels/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/attention_masks.h"
#include "kernels/code_tensor.h"
#include "kernels/product_operand.h"
#include "kernels/product_result.h"
#include "ops/quantize_kernels.h"

namespace tsquant::kernels {
namespace {

constexpr int64_t kMostQueries = 64, kFewestQueries = 6;  // whose scores are computed at once
constexpr int64_t kMostScores = 1 << 16;                  // of them, but for very many keys: a quarter of a megabyte
constexpr int64_t kAttentionGrain = 1000 * 1000;          // products that one thread should at least get

struct AttentionScratch {
  AlignedBuffer query, key, value, scores, weights, sums;
};
thread_local AttentionScratch attention_scratch;

/// The quantizer between softmax and second product.
struct WeightCodes {
  double scale;
  float inverse;
  RoundedRange range;
};

/// Weights as the left operand of the second product. Where that is too long for integers, its codes are floats.
const int16_t* round_weights(const SumRows<float>& x, const RoundedRange& range, int16_t* out) {
  round_rows(x, range, out);
  return out;
}
const float* round_weights(const SumRows<float>& x, const RoundedRange& range, float* out) {
  std::vector<int16_t> codes(static_cast<size_t>(x.n));
  for (int64_t row = 0; row < x.rows; ++row) {
    round_rows({x.sums + row * x.row, x.row, 1, x.n, x.factors + row}, range, codes.data());
    std::copy(codes.begin(), codes.end(), out + row * x.row);
  }
  return out;
}

/// Attention whose operands have the same batch. First and second product have types of their own.
template <typename Value1, typename Sum1, typename Value2, typename Sum2>
struct Attention {
  const ProductOperand &query, &key, &value;
  const AttentionMasks& masks;
  const ProductResult& result;
  double score_factor;
  const WeightCodes* codes;  ///< null: weights stay floats

  int64_t queries() const { return query.rows(); }
  int64_t keys() const { return key.columns(); }
  int64_t padded_keys() const { return panel_count(keys()) * kPanelColumns; }
  int64_t block_queries() const { return std::clamp(kMostScores / padded_keys(), kFewestQueries, kMostQueries); }
  int64_t blocks() const { return (queries() + block_queries() - 1) / block_queries(); }

  void reserve(AttentionScratch& s) const {
    const auto rows = static_cast<size_t>(block_queries());
    const auto size = static_cast<size_t>(panel_steps<Value1>(key.rows()) * kPanelStep<Value1>);
    s.query.resize(rows * size * sizeof(Value1));
    s.key.resize(static_cast<size_t>(panel_values(key.rows(), key.columns())) * sizeof(Value1));
    s.value.resize(static_cast<size_t>(panel_values(value.rows(), value.columns())) * sizeof(Value2));
    s.scores.resize(rows * static_cast<size_t>(padded_keys()) * sizeof(float));
    s.weights.resize(rows * static_cast<size_t>(padded_keys()) * sizeof(Value2));
    s.sums.resize(rows * static_cast<size_t>(panel_count(value.columns()) * kPanelColumns) * sizeof(Sum2));
  }

  /// The scores of these queries.
  void score(int64_t matrix, int64_t first, int64_t count, const AttentionScratch& s) const {
    const int64_t steps = panel_steps<Value1>(key.rows()), padded = steps * kPanelStep<Value1>;
    auto* left = s.query.as<Value1>();
    query.pack_left(matrix, first, count, padded, left);
    multiply(PanelProduct<Value1, Sum1>{left, padded, s.key.as<Value1>(), steps, count, panel_count(keys()),
                                        s.scores.as<Sum1>(), padded_keys()});
  }

  /// Turns scores into the left operand of the second product, whose sums get these factors.
  const Value2* weigh(int64_t matrix, int64_t first, int64_t count, const AttentionScratch& s, float* factors) const {
    ScoreRows scores;
    scores.values = s.scores.as<float>();
    scores.sums = std::is_same_v<Sum1, int32_t>;
    scores.row = scores.padded = padded_keys();
    scores.rows = count;
    scores.n = keys();
    scores.factor = static_cast<float>(score_factor);
    masks.point(matrix, first, scores);
    float totals[kMostQueries], inverses[kMostQueries];
    exponentials(scores, totals);
    const double scale = value.scale() * result.inverse_scale();
    if (codes != nullptr) {
      for (int64_t row = 0; row < count; ++row) inverses[row] = codes->inverse / totals[row];
      std::fill(factors, factors + count, static_cast<float>(scale * codes->scale));
      const SumRows<float> rows = {s.scores.as<float>(), padded_keys(), count, padded_keys(), inverses};
      return round_weights(rows, codes->range, s.weights.as<Value2>());
    }
    for (int64_t row = 0; row < count; ++row) factors[row] = static_cast<float>(scale / totals[row]);
    return reinterpret_cast<const Value2*>(s.scores.as<float>());  // floats: integers have codes
  }

  void run_block(int64_t matrix, int64_t first, int64_t count, const AttentionScratch& s) const {
    score(matrix, first, count, s);
    float factors[kMostQueries];
    const Value2* weights = weigh(matrix, first, count, s, factors);
    const int64_t panels = panel_count(value.columns()), wide = panels * kPanelColumns;
    auto* sums = s.sums.as<Sum2>();
    multiply(PanelProduct<Value2, Sum2>{weights, padded_keys(), s.value.as<Value2>(), panel_steps<Value2>(keys()),
                                        count, panels, sums, wide});
    result.write(matrix, first, SumRows<Sum2>{sums, wide, count, value.columns(), factors});
  }

  void run() const {
    const int64_t matrices = c10::multiply_integers(query.batch());
    if (matrices == 0) return;  // no memory, so that the other sizes may be anything
    const int64_t all = blocks();
    const double work = static_cast<double>(block_queries()) * static_cast<double>(keys()) *
                        static_cast<double>(key.rows() + value.columns());
    const auto grain =
        std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(kAttentionGrain) / std::max(work, 1.0)));
    at::parallel_for(0, matrices * all, grain, [&](int64_t begin, int64_t end) {
      AttentionScratch& s = attention_scratch;
      reserve(s);
      int64_t packed = -1;
      for (int64_t block = begin; block < end; ++block) {
        const int64_t matrix = block / all, at = block % all;
        if (matrix != packed) {
          key.pack_right(matrix, s.key.as<Value1>());
          value.pack_right(matrix, s.value.as<Value2>());
        }
        packed = matrix;
        // Blocks of nearly equal size: several threads finish at once.
        const int64_t first = queries() * at / all;
        run_block(matrix, first, queries() * (at + 1) / all - first, s);
      }
    });
  }
};

/// Codes of the query, in the order of their type, as codes of its quantizer less their zero point.
std::vector<int16_t> requantized(const ProductOperand& query, const AttentionSpec& spec) {
  const int64_t zero_point = spec.query_zero_point.value_or(0);
  check_target(*spec.query_scale, zero_point, at::kQUInt8);
  const at::Tensor& x = query.tensor();
  const auto scale = static_cast<float>(x.q_scale()), factor = static_cast<float>(spec.factor);
  float values[256];
  uint8_t codes[256];
  for (int64_t i = 0; i < 256; ++i) {
    const auto value = static_cast<float>(i + lowest_code(x.scalar_type()) - x.q_zero_point()) * scale;
    values[i] = spec.divides ? value / factor : value * factor;
  }
  quantize_u8(values, 256, inverse_scale(*spec.query_scale), zero_point, 0, 255, codes);
  std::vector<int16_t> table;
  for (const uint8_t code : codes) table.push_back(static_cast<int16_t>(code - zero_point));
  return table;
}

c10::optional<WeightCodes> weight_codes(const AttentionSpec& spec) {
  if (!spec.weight_scale) return c10::nullopt;
  const int64_t zero_point = spec.weight_zero_point.value_or(0);
  check_target(*spec.weight_scale, zero_point, at::kQUInt8);
  WeightCodes codes;
  codes.scale = static_cast<float>(*spec.weight_scale);
  codes.inverse = inverse_scale(*spec.weight_scale);
  codes.range.low = static_cast<float>(-zero_point);
  codes.range.high = static_cast<float>(255 - zero_point);
  return codes;
}

/// The operands, checked and with the same batch.
struct Operands {
  ProductOperand query, key, value;
  std::vector<int64_t> sizes;  ///< of the scores

  Operands(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)
      : query(q, "query of attention"), key(k, "key of attention"), value(v, "value of attention") {
    TORCH_CHECK(query.columns() == key.rows() && key.columns() == value.rows(), "tsquant: query, key and value of ",
                "attention have the shapes ", q.sizes(), ", ", k.sizes(), " and ", v.sizes(),
                "; they must be [..., queries, size], [..., size, keys] and [..., keys, columns]");
    sizes = at::infer_size(common_batch(query, key), value.batch());
    query.expand(sizes);
    key.expand(sizes);
    value.expand(sizes);
    sizes.insert(sizes.end(), {query.rows(), key.columns()});
  }
};

template <typename Value1, typename Sum1>
void run_second(const Operands& o, const AttentionMasks& masks, const ProductResult& result, double score_factor,
                const WeightCodes* codes) {
  if (codes != nullptr && o.value.is_codes() && o.value.rows() <= kMostExactProducts) {
    Attention<Value1, Sum1, int16_t, int32_t>{o.query, o.key, o.value, masks, result, score_factor, codes}.run();
  } else {
    Attention<Value1, Sum1, float, float>{o.query, o.key, o.value, masks, result, score_factor, codes}.run();
  }
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::TensorList mask_tensors,
                  const AttentionSpec& spec, c10::optional<ResultCodes> target) {
  Operands o(q, k, v);
  TORCH_CHECK(!spec.query_scale || o.query.is_codes(), "tsquant: attention quantizes only a query of codes anew");
  const AttentionMasks masks(mask_tensors, o.sizes);
  const auto codes = weight_codes(spec);
  double factor = o.key.scale();
  if (spec.query_scale) {
    o.query.set_table(requantized(o.query, spec));
    factor *= static_cast<float>(*spec.query_scale);
  } else {
    factor *= o.query.scale() * (spec.divides ? 1 / spec.factor : spec.factor);
  }
  auto sizes = o.sizes;
  sizes.back() = o.value.columns();
  ProductResult result(q, sizes, o.value.is_codes() ? v.scalar_type() : at::kQUInt8, target);
  if (result.tensor().numel() == 0) return result.tensor();
  if (o.value.rows() == 0) {
    result.clear();
    return result.tensor();
  }
  const bool exact = o.query.is_codes() && o.key.is_codes() && o.key.rows() <= kMostExactProducts;
  const WeightCodes* rounded = codes ? &*codes : nullptr;
  exact ? run_second<int16_t, int32_t>(o, masks, result, factor, rounded)
        : run_second<float, float>(o, masks, result, factor, rounded);
  return result.tensor();
}

}  // namespace

at::Tensor attention_float(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           at::TensorList masks, const AttentionSpec& spec) {
  return attend(query, key, value, masks, spec, c10::nullopt);
}

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, at::TensorList masks,
                     const AttentionSpec& spec, double scale, int64_t zero_point) {
  return attend(query, key, value, masks, spec, ResultCodes{scale, zero_point});
}

}  // namespace tsquant::kernels
