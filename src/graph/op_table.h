#pragma once

#include <c10/util/Optional.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tsquant {

/// How the propagation solver treats an operator (NNCF's QuantizationTrait).
enum class QuantizationTrait {
  kNonQuantizable,
  kQuantizationAgnostic,
  kInputsQuantizable,
  kConcat,
  kOutputQuantizationAsWeights,
};

/// One row of the operator table. Adding an operator is adding a row in op_table.cpp.
struct OpInfo {
  std::string metatype = "";                ///< NNCF's class name: "PTConv2dMetatype"
  std::vector<std::string> functions = {};  ///< bare function names that select this row: "conv2d", "add", "add_", ...
  std::vector<std::string> hw_ops = {};     ///< rows of the hardware table: "CONVOLUTION", ...; empty: none
  QuantizationTrait default_trait = QuantizationTrait::kNonQuantizable;
  std::vector<int64_t> weight_ports = {};  ///< tensor arguments that may hold a weight
  int64_t bias_port = -1;                  ///< tensor argument that holds the bias, -1: none
  int64_t output_channel_axis = -100;      ///< of the activation; -100: not defined
  std::vector<int64_t> ignored_input_ports = {};
  std::vector<int64_t> target_input_ports = {};
};

/// The row for a bare function name ("conv2d", "add_"), or the row "UnknownMetatype". Depthwise convolutions have
/// rows of their own: pass `depthwise`.
const OpInfo& find_op(const std::string& function, bool depthwise = false);

/// The row of a metatype ("PTAtenEmbeddingMetatype"), or the row "UnknownMetatype".
const OpInfo& find_metatype(const std::string& metatype);

/// Where the weight of a matrix multiplication stands.
struct ProductSide {
  bool left = false;       ///< weight times activation
  int64_t other_port = 0;  ///< of the other factor
};
/// @param port tensor argument of the weight
/// @return nullopt for rows that are no matrix multiplication; linear layers count as products with the weight on the
///         right
c10::optional<ProductSide> product_side(const OpInfo& op, int64_t port);

/// All rows, for reports and documentation.
const std::vector<OpInfo>& op_table();

}  // namespace tsquant
