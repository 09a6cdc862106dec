#include "quantizers/annotation_record.h"

#include "tsquant/error.h"

namespace tsquant {

namespace {

using RecordJson = nlohmann::json;

/// Fields are bound once, for both directions.
class Writer {
 public:
  explicit Writer(RecordJson& json) : json_(json) {}

  template <typename T>
  void operator()(const char* name, const T& value) {
    if constexpr (std::is_enum_v<T>) {
      json_[name] = static_cast<int64_t>(value);
    } else {
      json_[name] = value;
    }
  }

  template <typename T>
  void operator()(const char* name, const c10::optional<T>& value) {
    if (value) (*this)(name, *value);
  }

 private:
  RecordJson& json_;
};

class Reader {
 public:
  explicit Reader(const RecordJson& json) : json_(json) {}

  template <typename T>
  void operator()(const char* name, T& value) {
    if constexpr (std::is_enum_v<T>) {
      value = static_cast<T>(json_.at(name).get<int64_t>());
    } else {
      value = json_.at(name).get<T>();
    }
  }

  template <typename T>
  void operator()(const char* name, c10::optional<T>& value) {
    if (!json_.contains(name)) return;
    T found{};
    (*this)(name, found);
    value = found;
  }

 private:
  const RecordJson& json_;
};

template <typename Fields, typename Spec>
void bind_spec(Fields& field, Spec& spec) {
  field("format", spec.format);
  field("mode", spec.mode);
  field("signedness_to_force", spec.signedness_to_force);
  field("per_channel", spec.per_channel);
  field("ch_axis", spec.ch_axis);
  field("narrow_range", spec.narrow_range);
  field("half_range", spec.half_range);
  field("group_size", spec.group_size);
  field("group_axis", spec.group_axis);
  field("codebook", spec.codebook);
  field("formula", spec.formula);
  field("dtype", spec.dtype);
  field("quant_min", spec.quant_min);
  field("quant_max", spec.quant_max);
  field("eps", spec.eps);
  field("observer", spec.observer);
  field("averaging_constant", spec.averaging_constant);
  field("histogram_rule", spec.histogram_rule);
  field("fake_quantize", spec.fake_quantize);
  field("is_dynamic", spec.is_dynamic);
  field("float_zero_point", spec.float_zero_point);
  field("limits_of_observer", spec.limits_of_observer);
  field("fixed_scale", spec.fixed_scale);
  field("fixed_zero_point", spec.fixed_zero_point);
}

template <typename Fields, typename Point>
void bind_point(Fields& field, Point& point) {
  field("id", point.id);
  field("kind", point.kind);
  field("node", point.node);
  field("input_port", point.input_port);
  field("quantized_nodes", point.quantized_nodes);
  field("reason", point.reason);
}

template <typename Fields, typename Record>
void bind_refusal(Fields& field, Record& refusal) {
  field("node", refusal.node);
  field("code", refusal.code);
  field("reason", refusal.reason);
}

}  // namespace

RecordJson annotation_record(const Annotations& annotations) {
  RecordJson record{
      {"points", RecordJson::array()}, {"refusals", RecordJson::array()}, {"groups", annotations.unified_scale_groups}};
  for (const auto& point : annotations.points) {
    RecordJson json, spec;
    Writer point_writer(json), spec_writer(spec);
    bind_point(point_writer, point);
    bind_spec(spec_writer, point.spec);
    json["spec"] = std::move(spec);
    record["points"].push_back(std::move(json));
  }
  for (const auto& refusal : annotations.refusals) {
    RecordJson json;
    Writer writer(json);
    bind_refusal(writer, refusal);
    record["refusals"].push_back(std::move(json));
  }
  return record;
}

Annotations read_annotation_record(const RecordJson& record) {
  try {
    Annotations annotations;
    annotations.unified_scale_groups = record.at("groups").get<std::vector<std::vector<int64_t>>>();
    for (const RecordJson& json : record.at("points")) {
      QuantizationPoint point;
      Reader point_reader(json), spec_reader(json.at("spec"));
      bind_point(point_reader, point);
      bind_spec(spec_reader, point.spec);
      annotations.points.push_back(std::move(point));
    }
    for (const RecordJson& json : record.at("refusals")) {
      Reader reader(json);
      bind_refusal(reader, annotations.refusals.emplace_back());
    }
    return annotations;
  } catch (const RecordJson::exception& error) {
    throw Error(ErrorCode::kModelLoad, std::string("the record of its quantizers cannot be read: ") + error.what(),
                "prepared model", "prepare the model with this version again");
  }
}

}  // namespace tsquant
