// Parser of the JSON that the server passes: a model's configuration and, in one of its parameters, the signature.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cpp_host {

// A value of any kind. Numbers and words (true, null) are kept as text; no number here needs a fraction.
class Json {
 public:
  // Throws Failure if the text is not JSON.
  static Json parse(std::string_view text);

  // Members of an object: at throws Failure, which names the member, if it is missing; find returns null.
  const Json& at(const std::string& name) const;
  const Json* find(const std::string& name) const;

  const std::vector<Json>& items() const { return items_; }
  const std::string& text() const { return text_; }
  int64_t integer() const;

 private:
  friend class JsonReader;
  std::string text_;
  std::vector<Json> items_;
  std::map<std::string, Json> members_;
};

}  // namespace cpp_host
