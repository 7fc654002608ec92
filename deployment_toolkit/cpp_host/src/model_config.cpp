#include "model_config.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "cores.h"
#include "failure.h"
#include "json.h"
#include "shapes.h"

namespace cpp_host {
namespace {

struct Dtype {
  const char* name;  // numpy's name
  TRITONSERVER_DataType type;
  size_t bytes;
};

constexpr Dtype kDtypes[] = {
    {"bool", TRITONSERVER_TYPE_BOOL, 1},      {"uint8", TRITONSERVER_TYPE_UINT8, 1},
    {"int8", TRITONSERVER_TYPE_INT8, 1},      {"int16", TRITONSERVER_TYPE_INT16, 2},
    {"int32", TRITONSERVER_TYPE_INT32, 4},    {"int64", TRITONSERVER_TYPE_INT64, 8},
    {"float16", TRITONSERVER_TYPE_FP16, 2},   {"float32", TRITONSERVER_TYPE_FP32, 4},
    {"float64", TRITONSERVER_TYPE_FP64, 8},
};

// Measured for 5 x 1024 hidden units on two cores: reading the weights is most of the time of a small batch, and all
// threads together read them once, not once per stream. In float32 the products soon take longer.
constexpr int kUndividedFloat32Rows = 64;
constexpr int kUndividedRows = 256;

void set_bounds(TensorSpec& spec);

TensorSpec tensor(const Json& json) {
  TensorSpec spec;
  spec.name = json.at("name").text();
  const std::string& dtype = json.at("dtype").text();
  const auto* found = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype& d) { return dtype == d.name; });
  if (found == std::end(kDtypes)) {
    throw bad_request("tensor " + spec.name + " is of dtype " + dtype + ", which this host can't carry");
  }
  spec.type = found->type;
  spec.element_bytes = found->bytes;
  for (const Json& size : json.at("shape").items()) spec.row_shape.push_back(size.integer());
  std::vector<int64_t> smallest = spec.row_shape;
  std::replace(smallest.begin(), smallest.end(), int64_t{-1}, int64_t{1});
  if (!tensor_bytes(smallest.data(), smallest.size(), spec.element_bytes)) {
    throw bad_request("tensor " + spec.name + " has an impossible shape");
  }
  if (const Json* range = json.find("value_range"); range != nullptr && range->items().size() == 2) {
    spec.value_range = {range->items()[0].integer(), range->items()[1].integer()};
  }
  if (const Json* columns = json.find("columns"); columns != nullptr) {
    for (const Json& column : columns->items()) spec.columns.push_back(tensor(column));
    if (!spec.columns.empty() && spec.type == TRITONSERVER_TYPE_INT32) set_bounds(spec);
  }
  return spec;
}

// Bounds of each element of a row, from those of the columns.
void set_bounds(TensorSpec& spec) {
  constexpr int64_t kLeast = std::numeric_limits<int32_t>::min(), kMost = std::numeric_limits<int32_t>::max();
  size_t elements = 0;
  for (const TensorSpec& column : spec.columns) {
    const auto [least, most] = column.value_range.value_or(std::pair(kLeast, kMost));
    elements += column.row_elements();
    spec.least.resize(elements, static_cast<int32_t>(std::clamp(least, kLeast, kMost)));
    spec.most.resize(elements, static_cast<int32_t>(std::clamp(most, kLeast, kMost)));
  }
  if (elements != spec.row_elements()) throw bad_request("the columns of tensor " + spec.name + " do not fill its rows");
}

std::vector<TensorSpec> tensors(const Json& list) {
  std::vector<TensorSpec> specs;
  for (const Json& item : list.items()) specs.push_back(tensor(item));
  return specs;
}

const std::string& parameter(const Json& config, const std::string& key) {
  return config.at("parameters").at(key).at("string_value").text();
}

int count(const Json& config, const std::string& key, int least, int otherwise) {
  const Json* told = config.at("parameters").find(key);
  if (told == nullptr) return otherwise;
  const int64_t number = told->at("string_value").integer();
  if (number < least || number > std::numeric_limits<int>::max()) {
    throw bad_request("parameter " + key + " is " + std::to_string(number) + ": use " + std::to_string(least) + " or more");
  }
  return static_cast<int>(number);
}

bool accepts_non_finite(const Json& config) {
  const Json* told = config.at("parameters").find("non_finite");
  return told != nullptr && told->at("string_value").text() == "accepted";
}

bool is_floating(TRITONSERVER_DataType type) {
  return type == TRITONSERVER_TYPE_FP16 || type == TRITONSERVER_TYPE_FP32 || type == TRITONSERVER_TYPE_FP64;
}

}  // namespace

size_t TensorSpec::row_elements() const {
  size_t elements = 1;
  for (const int64_t size : row_shape) elements *= size == -1 ? 1 : static_cast<size_t>(size);
  return elements;
}

ModelConfig ModelConfig::parse(std::string_view json) {
  const Json config = Json::parse(json);
  const Json signature = Json::parse(parameter(config, "model_spec"));
  ModelConfig result;
  result.inputs = tensors(signature.at("inputs"));
  result.outputs = tensors(signature.at("outputs"));
  const Json* file_inputs = config.at("parameters").find("packed_inputs");
  result.engine_inputs =
      file_inputs == nullptr ? result.inputs : tensors(Json::parse(file_inputs->at("string_value").text()));
  if (!accepts_non_finite(config)) {
    for (TensorSpec& input : result.inputs) input.takes_finite = is_floating(input.type);
    for (TensorSpec& input : result.engine_inputs) input.takes_finite = is_floating(input.type);
  }
  result.format = parameter(config, "model_format");
  result.file = parameter(config, "model_file");
  result.precision = parameter(config, "inference_precision");
  result.threads = count(config, "threads", 1, cores());
  result.streams = count(config, "streams", 1, result.threads);
  result.max_batch_size = config.at("max_batch_size").integer();
  const bool float32 = result.precision == "f32";
  result.undivided_rows = count(config, "undivided_rows", 0, float32 ? kUndividedFloat32Rows : kUndividedRows);
  return result;
}

}  // namespace cpp_host
