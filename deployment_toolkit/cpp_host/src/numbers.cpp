#include "numbers.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "failure.h"

namespace cpp_host {
namespace {

struct Half {
  uint16_t bits;

  operator double() const {
    const int exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff;
    const double sign = bits >> 15 ? -1 : 1;
    if (exponent == 0x1f) return mantissa ? NAN : sign * INFINITY;
    return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
  }
};

template <typename Visit>
auto visit(TRITONSERVER_DataType type, Visit visit) {
  switch (type) {
    case TRITONSERVER_TYPE_BOOL:
    case TRITONSERVER_TYPE_UINT8: return visit(uint8_t{});
    case TRITONSERVER_TYPE_INT8: return visit(int8_t{});
    case TRITONSERVER_TYPE_INT16: return visit(int16_t{});
    case TRITONSERVER_TYPE_INT32: return visit(int32_t{});
    case TRITONSERVER_TYPE_INT64: return visit(int64_t{});
    case TRITONSERVER_TYPE_FP16: return visit(Half{});
    case TRITONSERVER_TYPE_FP32: return visit(float{});
    case TRITONSERVER_TYPE_FP64: return visit(double{});
    default: throw bad_request("a tensor is of a type that this host can't carry");
  }
}

template <typename T>
T element(const char* data, size_t index) {
  T value;
  std::memcpy(&value, data + index * sizeof(T), sizeof(T));
  return value;
}

double distance(double one, double other) {
  if (one == other || (std::isnan(one) && std::isnan(other))) return 0;
  const double apart = std::abs(one - other);
  return std::isnan(apart) ? INFINITY : apart;
}

}  // namespace

uint64_t Random::next() {
  uint64_t mixed = state_ += 0x9e3779b97f4a7c15;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
  return mixed ^ mixed >> 31;
}

void Random::fill(const TensorSpec& spec, char* data, size_t count) {
  if (!spec.least.empty()) {
    for (const char* const end = data + count * spec.element_bytes; data != end;) {
      for (TensorSpec column : spec.columns) {
        column.type = spec.type;
        fill(column, data, column.row_elements());
        data += column.row_elements() * spec.element_bytes;
      }
    }
    return;
  }
  visit(spec.type, [&](auto kind) {
    using T = decltype(kind);
    for (size_t i = 0; i < count; ++i) {
      T value{};
      if constexpr (std::is_same_v<T, Half>) {
        value.bits = static_cast<uint16_t>(0x3800 | (next() & 0x3ff));  // 0.5 to 1
      } else if constexpr (std::is_floating_point_v<T>) {
        value = static_cast<T>(static_cast<double>(next() >> 11) / 9007199254740992.0);  // 2 to the power of 53
      } else if (spec.value_range) {
        const int64_t least = std::max<int64_t>(spec.value_range->first, std::numeric_limits<T>::min());
        const int64_t most = std::min<int64_t>(spec.value_range->second, std::numeric_limits<T>::max());
        const uint64_t choices = static_cast<uint64_t>(most) - static_cast<uint64_t>(least) + 1;
        const uint64_t chosen = least > most ? 0 : choices == 0 ? next() : next() % choices;
        value = static_cast<T>(static_cast<uint64_t>(least) + chosen);
      }
      std::memcpy(data + i * sizeof(T), &value, sizeof(T));
    }
  });
}

bool is_whole(TRITONSERVER_DataType type) {
  return visit(type, [](auto kind) { return std::is_integral_v<decltype(kind)>; });
}

double largest_magnitude(TRITONSERVER_DataType type, const char* data, size_t count) {
  return visit(type, [&](auto kind) {
    double largest = 0;
    for (size_t i = 0; i < count; ++i) {
      const double magnitude = std::abs(static_cast<double>(element<decltype(kind)>(data, i)));
      if (std::isfinite(magnitude)) largest = std::max(largest, magnitude);
    }
    return largest;
  });
}

double largest_difference(TRITONSERVER_DataType type, const char* one, const char* other, size_t count) {
  return visit(type, [&](auto kind) {
    using T = decltype(kind);
    double largest = 0;
    for (size_t i = 0; i < count; ++i) {
      if (std::memcmp(one + i * sizeof(T), other + i * sizeof(T), sizeof(T)) == 0) continue;
      const double apart = distance(static_cast<double>(element<T>(one, i)), static_cast<double>(element<T>(other, i)));
      // Different 64-bit integers may be equal in double precision.
      largest = std::max(largest, std::is_integral_v<T> ? std::max(apart, 1.0) : apart);
    }
    return largest;
  });
}

}  // namespace cpp_host
