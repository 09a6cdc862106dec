#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

namespace tsquant {

/// The processes that calibrate or compress one model together. Each reads its own shard of the samples (sample i
/// belongs to rank i modulo size); statistics are merged, and every rank ends with the identical model.
class StatisticsExchange {
 public:
  virtual ~StatisticsExchange() = default;
  /// The number of this process, from 0 to size() - 1.
  virtual int64_t rank() const = 0;
  /// The number of processes.
  virtual int64_t size() const = 0;
  /// Gives every rank the tensors of all ranks, in rank order. Shapes may differ between ranks; the number of tensors
  /// and their dtypes may not. @throws Error kCalibration when a rank is lost or the ranks do not match
  virtual std::vector<std::vector<at::Tensor>> all_gather(const std::vector<at::Tensor>& tensors) = 0;
};

/// The exchange over LibTorch's c10d with the Gloo backend. (A build without Gloo's headers sends the same bytes
/// through c10d's FileStore, which is slower.) Every rank gives quantize_pt2e the whole data set, of which it reads its
/// shard and the first sample, and the same model, quantizer and options; differences are an Error that names them.
///
/// ```cpp
/// tsquant::QuantizePt2eOptions options;
/// options.exchange = tsquant::make_gloo_exchange("/shared/meeting", rank, size);
/// auto result = tsquant::quantize_pt2e(model, quantizer, data, options);  // the same on every rank
/// if (rank == 0) result.save("model_int8.pt");
/// ```
/// The result is bit for bit that of one process: what each sample adds to the statistics is replayed on every rank in
/// the order of the samples, and histograms, whose bins depend on all earlier samples, run each shard twice.
/// Models that keep state between samples are refused.
///
/// Weight compression takes the exchange as CompressPt2eOptions::exchange or CompressWeightsOptions::exchange, and
/// every rank ends with the file of one process as well. Ranks share, the largest first to the rank with least,
///  - the weights whose codes are chosen from the weight or from statistics of its inputs, with their adapters; scores
///    of sensitivity, errors for a target, scales of `awq`, adaptive codebooks;
///  - the samples that statistics of inputs are collected from. This needs at least one sample per rank, and a model
///    without state between samples;
///  - with `gptq`, and with CompressionQuality::kBest on data: the layers that read one tensor, such as the projections
///    of an attention. A layer that waits for the codes of those before it is computed by one rank while the others
///    wait; every rank runs all samples, and searches the column scales of kBest itself.
/// A rank with another model, other options or other data is an Error kCalibration on every rank. Data are compared
/// where every rank reads all of them (gptq and kBest), elsewhere their number. The first rank writes `dump_dir`.
/// @param store_path file on a file system that all ranks see; it must not exist before the first rank starts
/// @param timeout_seconds a rank that does not answer for so long is an Error on the others
/// @throws Error kInvalidArgument for a rank outside [0, size), kCalibration when the ranks do not meet in time
std::shared_ptr<StatisticsExchange> make_gloo_exchange(const std::string& store_path, int64_t rank, int64_t size,
                                                       double timeout_seconds = 300);

}  // namespace tsquant
