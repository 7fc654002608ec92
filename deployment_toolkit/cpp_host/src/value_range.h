// Check that ids are inside their tables.
#pragma once

#include <cstddef>

#include "model_config.h"

namespace cpp_host {

// Throws Failure, which names the feature, the value and the cardinality, if one of count values is outside the range of
// the tensor, or of its column if the tensor is packed.
void check_range(const TensorSpec& spec, const void* values, size_t count);

}  // namespace cpp_host
