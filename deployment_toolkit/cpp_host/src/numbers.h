// Tensors' elements: made at random, and compared.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model_config.h"

namespace cpp_host {

// The same numbers in every process. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
class Random {
 public:
  uint64_t next();
  // Elements of a tensor: whole numbers from its value range, 0 without one; others from 0 to 1.
  void fill(const TensorSpec& spec, char* data, size_t count);

 private:
  uint64_t state_ = 0;
};

bool is_whole(TRITONSERVER_DataType type);

// Of numbers that are finite; 0 if there are none.
double largest_magnitude(TRITONSERVER_DataType type, const char* data, size_t count);

// Infinite where one is not a number and the other is, or is another infinity.
double largest_difference(TRITONSERVER_DataType type, const char* one, const char* other, size_t count);

}  // namespace cpp_host
