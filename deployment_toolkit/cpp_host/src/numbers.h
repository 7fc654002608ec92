// Random elements of tensors, and their comparison.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model_config.h"

namespace cpp_host {

// Random numbers, the same in every process.
// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
class Random {
 public:
  uint64_t next();
  // Fills count elements of a tensor: integers from its value range, or from that of their column in a packed tensor, 0
  // without a range; other numbers from 0 to 1.
  void fill(const TensorSpec& spec, char* data, size_t count);

 private:
  uint64_t state_ = 0;
};

bool is_whole(TRITONSERVER_DataType type);

// Largest magnitude of the finite numbers; 0 if there are none.
double largest_magnitude(TRITONSERVER_DataType type, const char* data, size_t count);

// Largest difference; infinite if only one of two elements is NaN, or if they are different infinities.
double largest_difference(TRITONSERVER_DataType type, const char* one, const char* other, size_t count);

}  // namespace cpp_host
