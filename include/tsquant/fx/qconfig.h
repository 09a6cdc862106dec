#pragma once

#include <cstdint>
#include <string>

#include "tsquant/observer_module.h"

namespace tsquant::fx {

/// What torch.ao's QConfig says about an operator: the observers of its activations and of its weight.
struct QConfig {
  ObserverConfig activation, weight;
};

bool operator==(const QConfig& a, const QConfig& b);
inline bool operator!=(const QConfig& a, const QConfig& b) { return !(a == b); }

/// As JSON text: `{"activation": {"observer": "MinMaxObserver", "dtype": "quint8", ...}, "weight": {...}}`. Names are
/// torch.ao's; what is not written has the default of ObserverConfig.
std::string to_json(const QConfig& qconfig);
/// @throws Error kInvalidArgument naming the key that is wrong, and the right one that comes closest
QConfig qconfig_from_json(const std::string& text);

/// What an engine computes best after calibration. fbgemm, x86: activations from a histogram with half of the codes,
/// weights per channel; onednn: the same with all codes; qnnpack: all codes, weights per tensor.
/// @param version 0 is the only one
/// @throws Error kInvalidArgument for another backend than "x86", "fbgemm", "onednn" and "qnnpack", or another version
QConfig get_default_qconfig(const std::string& backend = "x86", int64_t version = 0);

/// The same for training with quantization, with moving averages.
/// @param version 1: FusedMovingAvgObsFakeQuantize; 0: FakeQuantize
/// @throws Error kInvalidArgument as get_default_qconfig
QConfig get_default_qat_qconfig(const std::string& backend = "x86", int64_t version = 1);

QConfig default_qconfig();              ///< MinMax 0..127, weights MinMax per tensor
QConfig default_per_channel_qconfig();  ///< the same with weights per channel
QConfig default_debug_qconfig();        ///< keeps every activation, weights MinMax per tensor
QConfig default_dynamic_qconfig();      ///< activations quantized at run time, weights MinMax per tensor
QConfig per_channel_dynamic_qconfig();  ///< the same with weights per channel
/// Weights of linear and recurrent layers rounded to float16, +-65504 at most, and stored so; the layers read them as
/// float32 and compute in it. torch.ao's linear_dynamic_fp16 computes the same, and not on every engine.
QConfig float16_dynamic_qconfig();
QConfig float16_static_qconfig();       ///< float16 operators, which stay in float here
QConfig default_reuse_input_qconfig();  ///< the parameters of the operator's input, for what only moves values

/// Tables of embedding and embedding_bag as 8 or 4 bits per row, with floating-point zero points: codes
/// round(x / scale + zero_point), values (code - zero_point) * scale in float32; activations stay in float. Every form
/// computes these values, which are those of torch.ao's reference model, on every processor. torch.ao's lowered model
/// differs by the last bits with 8 bits (embedding_byte adds a bias) and by its float16 scales with 4 bits. The lowered
/// form reads rows of codes and packs those of 4 bits two in a byte; other forms keep each in a byte.
QConfig float_qparams_weight_only_qconfig();
QConfig float_qparams_weight_only_qconfig_4bit();

/// For XNNPACK: codes -128..127 for activations and -127..127 for weights, scales of 2^-12 or more.
QConfig default_symmetric_qnnpack_qconfig();
QConfig default_per_channel_symmetric_qnnpack_qconfig();
QConfig default_symmetric_qnnpack_qat_qconfig();
QConfig default_per_channel_symmetric_qnnpack_qat_qconfig();

QConfig default_qat_qconfig();              ///< FakeQuantize around moving averages, activations 0..127
QConfig default_qat_qconfig_v2();           ///< FusedMovingAvgObsFakeQuantize, activations 0..255
QConfig default_dynamic_qat_qconfig();      ///< activations fake-quantized by the batch at hand
QConfig default_weight_only_qconfig();      ///< only the weight is fake-quantized
QConfig default_activation_only_qconfig();  ///< only activations are fake-quantized
QConfig default_embedding_qat_qconfig();    ///< float_qparams_weight_only_qconfig for training
QConfig default_embedding_qat_qconfig_4bit();

/// Activations of operators with a fixed range: codes times 1/256 for [0, 1), or times 2/256 around 128 for [-1, 1).
ObserverConfig default_fixed_qparams_range_0to1_observer();
ObserverConfig default_fixed_qparams_range_neg1to1_observer();

}  // namespace tsquant::fx
