#include "valid_values.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "failure.h"

namespace cpp_host {
namespace {

// The loop has no branch, so it compiles to vector instructions.
template <typename T>
bool all_inside(const T* values, size_t count, T low, T high) {
  bool outside = false;
  for (size_t i = 0; i < count; ++i) outside |= (values[i] < low) | (values[i] > high);
  return !outside;
}

std::string cardinality(int64_t high) {
  return high < 0 ? std::to_string(high + 1) : std::to_string(static_cast<uint64_t>(high) + 1);  // 2^63 fits no int64_t
}

std::string outside(const TensorSpec& spec, int64_t value) {
  const auto [low, high] = *spec.value_range;
  return spec.name + " holds id " + std::to_string(value) + ", outside " + std::to_string(low) + " .. " +
         std::to_string(high) + " (cardinality " + cardinality(high) + ")";
}

template <typename T>
[[noreturn]] void refuse(const TensorSpec& spec, const T* values, size_t count) {
  const int64_t low = spec.value_range->first;
  const auto [smallest, largest] = std::minmax_element(values, values + count);
  throw bad_request("input " + outside(spec, static_cast<int64_t>(*smallest) < low ? *smallest : *largest));
}

template <typename T>
void check(const TensorSpec& spec, const void* data, size_t count) {
  const T* values = static_cast<const T*>(data);
  constexpr int64_t kLowest = static_cast<int64_t>(std::numeric_limits<T>::lowest());
  constexpr int64_t kHighest = static_cast<int64_t>(std::numeric_limits<T>::max());
  const auto [low, high] = *spec.value_range;
  if (low > kHighest || high < kLowest) refuse(spec, values, count);  // the type can't hold any valid id
  const T least = static_cast<T>(std::max(low, kLowest)), most = static_cast<T>(std::min(high, kHighest));
  if (!all_inside(values, count, least, most)) refuse(spec, values, count);
}

// The inner loop has no branch, as above.
bool all_rows_inside(const int32_t* values, size_t count, const std::vector<int32_t>& least, const std::vector<int32_t>& most) {
  const size_t width = least.size();
  bool outside = false;
  for (size_t start = 0; start < count; start += width) {
    for (size_t i = 0; i < width; ++i) outside |= (values[start + i] < least[i]) | (values[start + i] > most[i]);
  }
  return !outside;
}

void check_columns(const TensorSpec& spec, const int32_t* values, size_t count) {
  if (all_rows_inside(values, count, spec.least, spec.most)) return;
  for (size_t start = 0; start < count;) {
    for (const TensorSpec& column : spec.columns) {
      const size_t width = column.row_elements();
      for (size_t i = 0; i < width; ++i) {
        const int32_t value = values[start + i];
        if (!column.value_range || (value >= column.value_range->first && value <= column.value_range->second)) continue;
        throw bad_request("input " + spec.name + ": " + outside(column, value));
      }
      start += width;
    }
  }
}

// Bits of a floating-point number: the exponent of NaN and of the infinities is all ones, the mantissa of NaN is not 0.
template <typename Bits, Bits kExponent>
struct FloatBits {
  using Type = Bits;
  static bool is_finite(Bits bits) { return (bits & kExponent) != kExponent; }
  static const char* name(Bits bits) {
    if ((bits & kMantissa) != 0) return "NaN";
    return bits >> (sizeof(Bits) * 8 - 1) ? "-infinity" : "infinity";
  }

 private:
  static constexpr Bits kMantissa = static_cast<Bits>((kExponent & (~kExponent + 1)) - 1);  // below the exponent
};

// Name of an element: of its tensor and, if that is packed, of its column.
std::string name_of(const TensorSpec& spec, size_t element) {
  size_t left = spec.columns.empty() ? 0 : element % spec.row_elements();
  for (const TensorSpec& column : spec.columns) {
    if (left < column.row_elements()) return spec.name + ": " + column.name;
    left -= column.row_elements();
  }
  return spec.name;
}

template <typename Float>
void check_finite(const TensorSpec& spec, const void* data, size_t count) {
  const auto* values = static_cast<const typename Float::Type*>(data);
  bool finite = true;
  for (size_t i = 0; i < count; ++i) finite &= Float::is_finite(values[i]);  // no branch, as above
  if (finite) return;
  const size_t at = static_cast<size_t>(
      std::find_if(values, values + count, [](auto bits) { return !Float::is_finite(bits); }) - values);
  throw bad_request("input " + name_of(spec, at) + " holds " + Float::name(values[at]) + ", a number must be finite");
}

void check_numbers(const TensorSpec& spec, const void* values, size_t count) {
  switch (spec.type) {
    case TRITONSERVER_TYPE_FP16: return check_finite<FloatBits<uint16_t, 0x7c00>>(spec, values, count);
    case TRITONSERVER_TYPE_FP32: return check_finite<FloatBits<uint32_t, 0x7f800000>>(spec, values, count);
    case TRITONSERVER_TYPE_FP64: return check_finite<FloatBits<uint64_t, 0x7ff0000000000000>>(spec, values, count);
    default: return;
  }
}

}  // namespace

void check_values(const TensorSpec& spec, const void* values, size_t count) {
  if (spec.takes_finite) return check_numbers(spec, values, count);
  if (!spec.least.empty()) return check_columns(spec, static_cast<const int32_t*>(values), count);
  if (!spec.value_range || count == 0) return;
  switch (spec.type) {
    case TRITONSERVER_TYPE_UINT8: return check<uint8_t>(spec, values, count);
    case TRITONSERVER_TYPE_INT8: return check<int8_t>(spec, values, count);
    case TRITONSERVER_TYPE_INT16: return check<int16_t>(spec, values, count);
    case TRITONSERVER_TYPE_INT32: return check<int32_t>(spec, values, count);
    case TRITONSERVER_TYPE_INT64: return check<int64_t>(spec, values, count);
    default: throw bad_request("input " + spec.name + " has a value range and is no whole number");
  }
}

}  // namespace cpp_host
