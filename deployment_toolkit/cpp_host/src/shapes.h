// Sizes of tensors, from shapes that a client wrote.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace cpp_host {

// Bytes of a tensor of this shape; nothing if a dimension is negative, or if no memory could hold its elements.
inline std::optional<size_t> tensor_bytes(const int64_t* shape, size_t rank, size_t element_bytes) {
  int64_t held = static_cast<int64_t>(element_bytes);
  bool is_empty = false;
  for (size_t i = 0; i < rank; ++i) {
    if (shape[i] < 0) return std::nullopt;
    is_empty |= shape[i] == 0;
    if (shape[i] > 0 && __builtin_mul_overflow(held, shape[i], &held)) return std::nullopt;
  }
  return is_empty ? 0 : static_cast<size_t>(held);
}

}  // namespace cpp_host
