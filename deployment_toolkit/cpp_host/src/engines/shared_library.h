// Library that is opened when the first model needs it, and stays open: its threads outlive any model.
#pragma once

#include <string>

namespace cpp_host {

class SharedLibrary {
 public:
  // Its symbols are not visible to other libraries. Throws Failure if it can't be opened.
  SharedLibrary(const char* name, const char* path);

  // Sets function to the function of this name. Throws Failure if the library has none.
  template <typename Function>
  void find(const char* function_name, Function*& function) const {
    function = reinterpret_cast<Function*>(find(function_name));
  }

 private:
  void* find(const char* function_name) const;

  const char* name_;
  std::string path_;
  void* handle_;
};

// Deleter that calls a function of a library; get returns the table that has it.
template <auto Get, auto Function>
struct Freed {
  template <typename T>
  void operator()(T* resource) const {
    (Get().*Function)(resource);
  }
};

}  // namespace cpp_host
