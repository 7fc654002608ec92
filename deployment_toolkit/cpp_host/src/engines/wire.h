// Reader of protobuf messages without their schemas. Source: protobuf's documentation, chapter encoding.
#pragma once

#include <cstdint>
#include <string_view>

namespace cpp_host {

// Fields of a message, one after the other:
//   for (WireReader fields(message); fields.next();) if (fields.number() == 1) use(fields.bytes());
class WireReader {
 public:
  explicit WireReader(std::string_view message) : rest_(message) {}

  // Moves to the next field; false at the end. Throws Failure if the message is damaged.
  bool next();

  int number() const { return number_; }
  // Value of a number or an enumeration; 0 for other fields.
  uint64_t integer() const { return integer_; }
  // Content of a text, a message, or packed numbers; empty for other fields.
  std::string_view bytes() const { return bytes_; }

 private:
  uint64_t varint();
  std::string_view take(uint64_t count);

  std::string_view rest_;
  int number_ = 0;
  uint64_t integer_ = 0;
  std::string_view bytes_;
};

}  // namespace cpp_host
