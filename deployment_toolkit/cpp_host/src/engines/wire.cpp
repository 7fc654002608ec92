#include "wire.h"

#include "../failure.h"

namespace cpp_host {
namespace {

[[noreturn]] void refuse() { throw bad_request("the file is damaged, convert or copy it anew"); }

}  // namespace

bool WireReader::next() {
  if (rest_.empty()) return false;
  const uint64_t tag = varint();
  number_ = static_cast<int>(tag >> 3);
  integer_ = 0;
  bytes_ = {};
  switch (tag & 7) {
    case 0: integer_ = varint(); break;
    case 1: take(8); break;
    case 2: bytes_ = take(varint()); break;
    case 5: take(4); break;
    default: refuse();
  }
  return true;
}

uint64_t WireReader::varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = static_cast<unsigned char>(take(1)[0]);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  refuse();
}

std::string_view WireReader::take(uint64_t count) {
  if (count > rest_.size()) refuse();
  const std::string_view taken = rest_.substr(0, count);
  rest_.remove_prefix(count);
  return taken;
}

}  // namespace cpp_host
