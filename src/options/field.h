#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "options/value_codec.h"

namespace tsquant {

/// How the command line names an option.
struct Flag {
  std::string name = {};  ///< "--subset-size", "--smooth-quant,!--no-smooth-quant"; empty: not on the command line
  std::string group = {};
  std::string help = {};                                            ///< empty: that of the field
  std::vector<std::pair<std::string, nlohmann::json>> choice = {};  ///< its own words for values; empty: the field's
  nlohmann::json when_given =
      nullptr;  ///< a switch sets this (its negation the opposite); null: the flag takes a value
  std::function<nlohmann::json(const std::string&)> parse = {};  ///< for values that have their own form
};

/// One row about one field of an options struct. Flags, JSON keys and schema, checks, recorded text, keys of
/// statistics and documentation follow from it.
template <typename Struct>
struct Field {
  std::string name;                 ///< JSON key and name in messages; parts of a struct: "outer.inner"
  std::string help;                 ///< one sentence for people
  nlohmann::json schema;            ///< type and limits of its JSON
  Flag flag = {};                   ///< name empty: not on the command line
  std::string record_name = {};     ///< in the report; empty: not recorded
  std::string record_empty = {};    ///< what is recorded when nothing is set
  bool decides_statistics = false;  ///< changes which tensors calibration observes, or how
  bool in_text = true;              ///< part of the recorded text of its struct
  std::vector<Field> parts = {};    ///< of a struct
  nlohmann::json default_value = nullptr;

  std::function<nlohmann::json(const Struct&)> get = {};
  std::function<void(Struct&, const nlohmann::json&)> set = {};
  std::function<std::string(const Struct&)> unused = {};  ///< why the value has no effect; empty text: it has

  // What follows is for writing rows.
  Field at_least(double limit) { return with_limit("minimum", limit); }
  Field at_most(double limit) { return with_limit("maximum", limit); }
  Field above(double limit) { return with_limit("exclusiveMinimum", limit); }
  Field on_flag(Flag value) {
    flag = std::move(value);
    return *this;
  }
  Field recorded_as(std::string report_name, std::string empty = "default") {
    record_name = std::move(report_name);
    record_empty = std::move(empty);
    return *this;
  }
  Field recorded(std::string empty = "default") { return recorded_as(name, std::move(empty)); }
  Field not_in_text() {
    in_text = false;
    return *this;
  }
  Field deciding() {
    decides_statistics = true;
    return *this;
  }
  /// The parts are unused for the same reason.
  Field unused_when(std::function<std::string(const Struct&)> reason) {
    unused = reason;
    for (Field& part : parts) part.unused = reason;
    return *this;
  }
  /// For a struct that stands in two places, as for weights and activations: `prefix` goes before the flags of its
  /// parts, `subject` in the place of "{}" in their help.
  Field with_flag_prefix(const std::string& prefix, const std::string& subject) {
    for (Field& part : parts) {
      if (part.flag.name.empty()) continue;
      part.flag.name = prefix + part.flag.name;
      const std::string help = part.flag.help.empty() ? part.help : part.flag.help;
      part.flag.help = help;
      const std::string mark = "{}";
      const size_t at = help.find(mark);
      if (at != std::string::npos) part.flag.help.replace(at, mark.size(), subject);
    }
    return *this;
  }

 private:
  Field with_limit(const char* kind, double limit) {
    if (limit == static_cast<double>(static_cast<int64_t>(limit))) {
      schema[kind] = static_cast<int64_t>(limit);
    } else {
      schema[kind] = limit;
    }
    return *this;
  }
};

template <typename Struct>
using Fields = std::vector<Field<Struct>>;

/// The rows of a struct, in the order of its fields. One specialization per struct, in <struct>_fields.cpp.
template <typename Struct>
const Fields<Struct>& fields();

template <typename Struct, typename Value>
Field<Struct> option(Value Struct::*member, std::string name, std::string help) {
  Field<Struct> field;
  field.name = std::move(name);
  field.help = std::move(help);
  field.schema = ValueCodec<Value>::schema();
  field.get = [member](const Struct& object) { return ValueCodec<Value>::write(object.*member); };
  field.set = [member](Struct& object, const nlohmann::json& json) { ValueCodec<Value>::read(json, object.*member); };
  field.default_value = field.get(Struct());
  return field;
}

/// The JSON schema of an object with these fields and no others.
template <typename Struct>
nlohmann::json object_schema(const Fields<Struct>& rows) {
  nlohmann::json properties = nlohmann::json::object();
  for (const auto& row : rows) properties[row.name.substr(row.name.rfind('.') + 1)] = row.schema;
  return {{"type", "object"}, {"additionalProperties", false}, {"properties", properties}};
}

/// Sets the members that an object of JSON has, by their names; the others stay.
template <typename Struct>
void read_fields(const nlohmann::json& json, Struct& object) {
  for (const auto& row : fields<Struct>()) {
    if (json.contains(row.name)) row.set(object, json.at(row.name));
  }
}

/// The members by their names, without those that have no value.
template <typename Struct>
nlohmann::json write_fields(const Struct& object) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& row : fields<Struct>()) {
    auto value = row.get(object);
    if (!value.is_null()) json[row.name] = std::move(value);
  }
  return json;
}

/// A field that is a struct with rows of its own.
template <typename Struct, typename Inner>
Field<Struct> struct_option(Inner Struct::*member, const std::string& name, std::string help) {
  Field<Struct> field;
  field.name = name;
  field.help = std::move(help);
  const auto parts_of = [member, &name](const Fields<Inner>& rows, auto&& self) -> std::vector<Field<Struct>> {
    std::vector<Field<Struct>> parts;
    for (const Field<Inner>& row : rows) {
      Field<Struct> part;
      part.name = name + "." + row.name;
      part.help = row.help;
      part.schema = row.schema;
      part.flag = row.flag;
      part.in_text = row.in_text;
      part.default_value = row.default_value;
      part.get = [member, get = row.get](const Struct& object) { return get(object.*member); };
      part.set = [member, set = row.set](Struct& object, const nlohmann::json& json) { set(object.*member, json); };
      if (row.unused) part.unused = [member, why = row.unused](const Struct& object) { return why(object.*member); };
      part.parts = self(row.parts, self);
      parts.push_back(std::move(part));
    }
    return parts;
  };
  field.parts = parts_of(fields<Inner>(), parts_of);
  field.schema = object_schema(fields<Inner>());
  field.get = [member](const Struct& object) { return write_fields(object.*member); };
  field.set = [member](Struct& object, const nlohmann::json& json) { read_fields(json, object.*member); };
  field.default_value = field.get(Struct());
  return field;
}

/// Calls visit(row) for every row without parts, those inside of structs included.
template <typename Struct, typename Visit>
void for_each_leaf(const Fields<Struct>& rows, const Visit& visit) {
  for (const auto& row : rows) {
    if (row.parts.empty()) {
      visit(row);
    } else {
      for_each_leaf(row.parts, visit);
    }
  }
}

}  // namespace tsquant
