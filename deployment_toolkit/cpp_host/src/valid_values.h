// Check that ids are inside their tables, and numbers finite.
#pragma once

#include <cstddef>

#include "model_config.h"

namespace cpp_host {

// Throws Failure, which names the feature and the value, if one of count values is outside the range of the tensor, or is
// infinite or NaN where the tensor takes finite numbers. In a packed tensor these are the rules of the value's column.
void check_values(const TensorSpec& spec, const void* values, size_t count);

}  // namespace cpp_host
