#include "shared_library.h"

#include <dlfcn.h>

#include "../failure.h"

namespace cpp_host {

SharedLibrary::SharedLibrary(const char* name, const char* path)
    : name_(name), path_(path), handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ != nullptr) return;
  const char* reason = dlerror();
  throw Failure(
      TRITONSERVER_ERROR_UNAVAILABLE, std::string(name) + " can't be opened: " + (reason == nullptr ? path : reason) +
                                          "; run scripts/install.sh, then restart the server");
}

void* SharedLibrary::find(const char* function_name) const {
  void* found = dlsym(handle_, function_name);
  if (found != nullptr) return found;
  throw Failure(
      TRITONSERVER_ERROR_UNSUPPORTED, path_ + " has no function " + function_name +
                                          ": run scripts/install.sh, which installs the release of " + name_ +
                                          " that has it");
}

}  // namespace cpp_host
