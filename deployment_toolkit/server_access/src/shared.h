// What both halves of the library share. It is preloaded into programs that have no option for what it does, and takes
// nothing but the C library, of which it asks for old functions only: a container may have another one.
#pragma once

#include <stddef.h>
#include <string.h>

namespace access_key {

constexpr char kServerOptions[] = "WIDE_DEEP_SERVER_OPTIONS";
constexpr char kClientKey[] = "WIDE_DEEP_CLIENT_KEY";

/// The first `size` bytes of the text are the prefix.
inline bool starts_with(const char* text, size_t size, const char* prefix) {
  const size_t length = strlen(prefix);
  return size >= length && memcmp(text, prefix, length) == 0;
}

}  // namespace access_key
