#include "api.h"

#include <algorithm>
#include <cstdlib>

#include "../../failure.h"

namespace cpp_host::tensorflow {

Api::Api() {
  setenv(kOwnThreads, "1", 1);
  setenv("TF_CPP_MIN_LOG_LEVEL", "1", 0);  // drops notes that are no warnings
  const SharedLibrary library("TensorFlow", TENSORFLOW_LIBRARY);
#define FIND(name) library.find(#name, name);
  TENSORFLOW_FUNCTIONS(FIND)
#undef FIND
}

const Api& api() {
  static const Api opened;
  return opened;
}

void Status::require(const std::string& what) const {
  if (api().TF_GetCode(get()) == TF_OK) return;
  std::string reason = api().TF_Message(get());
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  throw Failure(TRITONSERVER_ERROR_INTERNAL, what + ": " + reason);
}

}  // namespace cpp_host::tensorflow
