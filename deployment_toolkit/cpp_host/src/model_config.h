// Configuration of a model that this host runs, from the server's configuration.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "triton_api.h"

namespace cpp_host {

struct TensorSpec {
  std::string name;
  TRITONSERVER_DataType type;
  size_t element_bytes;
  std::vector<int64_t> row_shape;                        // without the batch dimension; -1 is any size
  std::optional<std::pair<int64_t, int64_t>> value_range;  // both ends included
  std::vector<TensorSpec> columns;                       // of a packed tensor: tensors side by side in a row, in order
  std::vector<int32_t> least, most;                      // of a packed tensor of ids: bounds of each element of a row
  bool takes_finite = false;                             // of floating-point numbers: NaN and infinities are refused

  // Elements of a row without free dimensions.
  size_t row_elements() const;
};

struct ModelConfig {
  std::vector<TensorSpec> inputs, outputs;  // of requests, sorted by name, as in every signature
  std::vector<TensorSpec> engine_inputs;    // of the file: those of requests, or packed ones that have them as columns
  std::string format;                       // names the engine
  std::string file;                         // in the version's folder
  std::string precision;                    // of the arithmetic: f32, bf16 or int8
  int threads;                              // of all instances together
  int streams;                              // concurrent inferences, which share the threads evenly
  int64_t max_batch_size;                   // rows; 0: the server does not batch, and a request has any number of rows
  int undivided_rows;                       // of the largest batch that all threads compute together

  // Throws Failure, which names the missing or wrong value.
  static ModelConfig parse(std::string_view json);
};

}  // namespace cpp_host
