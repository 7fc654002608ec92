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
};

struct ModelConfig {
  std::vector<TensorSpec> inputs, outputs;  // sorted by name, as in every signature
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
