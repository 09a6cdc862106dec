#include "flows/compression/compression_config.h"

#include <fstream>
#include <sstream>

#include "flows/nncf_config/check_schema.h"
#include "flows/nncf_config/plain_json.h"
#include "options/tables.h"
#include "tsquant/compress_weights.h"
#include "tsquant/error.h"
#include "tsquant/nncf_config.h"

namespace tsquant {

namespace {

using nlohmann::json;

json document_of(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) {
    throw Error(ErrorCode::kInvalidArgument, "the configuration cannot be read", path, "check the path");
  }
  return parse_config<json>(text.str(), path);
}

bool is_of_nncf(const json& document) {
  return document.contains("compression") || document.contains("weight_compression");
}

}  // namespace

bool is_compression_config(const std::string& path) {
  json document;
  try {
    document = document_of(path);
  } catch (const Error&) {
    return false;
  }
  if (!document.is_object() || is_of_nncf(document)) return false;
  for (const auto& row : fields<CompressWeightsOptions>()) {
    if (document.contains(row.name)) return true;
  }
  return false;
}

CompressWeightsOptions read_compress_options(const std::string& path, CompressWeightsOptions base) {
  const json document = document_of(path);
  if (document.is_object() && is_of_nncf(document)) {
    return NNCFConfig::from_json(path).compress_weights_options(std::move(base));
  }
  check_schema(object_schema(fields<CompressWeightsOptions>()), document, path);
  read_fields(document, base);
  return base;
}

}  // namespace tsquant
