#include "json.h"

#include <cctype>
#include <cstdlib>

#include "failure.h"

namespace cpp_host {

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Json document() {
    Json value = this->value(0);
    if (peek() != '\0') fail();
    return value;
  }

 private:
  static constexpr int kDeepest = 64;

  Json value(int depth) {
    if (depth > kDeepest) fail();
    Json json;
    switch (peek()) {
      case '{':
        list('}', [&] {
          std::string name = string();
          expect(':');
          json.members_[name] = value(depth + 1);
        });
        break;
      case '[':
        list(']', [&] { json.items_.push_back(value(depth + 1)); });
        break;
      case '"':
        json.text_ = string();
        break;
      default:
        json.text_ = word();
    }
    return json;
  }

  template <typename Item>
  void list(char end, Item item) {
    ++at_;
    if (peek() != end) {
      item();
      while (peek() == ',') {
        ++at_;
        item();
      }
    }
    expect(end);
  }

  std::string string() {
    expect('"');
    std::string result;
    for (char c = next(); c != '"'; c = next()) {
      if (c == '\\') {
        escaped(result);
      } else {
        result += c;
      }
    }
    return result;
  }

  void escaped(std::string& result) {
    static const std::string kLetters = "bfnrt", kMeant = "\b\f\n\r\t";
    const char c = next();
    if (c == 'u') {
      unicode(result);
    } else if (const size_t index = kLetters.find(c); index != std::string::npos) {
      result += kMeant[index];
    } else {
      result += c;
    }
  }

  void unicode(std::string& result) {
    uint32_t code = hex();
    if (code >= 0xD800 && code < 0xDC00) {  // the first half of a surrogate pair
      if (next() != '\\' || next() != 'u') fail();
      code = 0x10000 + ((code - 0xD800) << 10) + (hex() - 0xDC00);
    }
    if (code < 0x80) {
      result += static_cast<char>(code);
      return;
    }
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    const uint32_t mark = more == 1 ? 0xC0 : more == 2 ? 0xE0 : 0xF0;
    result += static_cast<char>(mark | (code >> (6 * more)));
    for (int shift = 6 * (more - 1); shift >= 0; shift -= 6) result += static_cast<char>(0x80 | ((code >> shift) & 0x3F));
  }

  uint32_t hex() {
    char digits[5] = {next(), next(), next(), next(), '\0'};
    char* end = nullptr;
    const uint32_t code = static_cast<uint32_t>(std::strtoul(digits, &end, 16));
    if (end != digits + 4) fail();
    return code;
  }

  std::string word() {
    const size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || strchr_("+-.", text_[at_]))) {
      ++at_;
    }
    if (at_ == start) fail();
    return std::string(text_.substr(start, at_ - start));
  }

  static bool strchr_(std::string_view set, char c) { return set.find(c) != std::string_view::npos; }

  // Next character that is no space, without consuming it; a zero at the end.
  char peek() {
    while (at_ < text_.size() && strchr_(" \t\r\n", text_[at_])) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  char next() {
    if (at_ >= text_.size()) fail();
    return text_[at_++];
  }

  void expect(char c) {
    if (peek() != c) fail();
    ++at_;
  }

  [[noreturn]] void fail() const {
    throw Failure(TRITONSERVER_ERROR_INTERNAL, "not JSON from character " + std::to_string(at_) + " on");
  }

  std::string_view text_;
  size_t at_ = 0;
};

Json Json::parse(std::string_view text) { return JsonReader(text).document(); }

const Json* Json::find(const std::string& name) const {
  const auto found = members_.find(name);
  return found == members_.end() ? nullptr : &found->second;
}

const Json& Json::at(const std::string& name) const {
  const Json* found = find(name);
  if (found == nullptr) throw Failure(TRITONSERVER_ERROR_INVALID_ARG, "the model's configuration has no " + name);
  return *found;
}

int64_t Json::integer() const {
  char* end = nullptr;
  const int64_t number = std::strtoll(text_.c_str(), &end, 10);
  if (text_.empty() || *end != '\0') throw Failure(TRITONSERVER_ERROR_INVALID_ARG, "not a whole number: " + text_);
  return number;
}

}  // namespace cpp_host
