#include "api.h"

namespace cpp_host::openvino {

Api::Api() {
  const SharedLibrary library("OpenVINO", OPENVINO_LIBRARY);
#define FIND(name) library.find(#name, name);
  OPENVINO_FUNCTIONS(FIND)
#undef FIND
}

const Api& api() {
  static const Api opened;
  return opened;
}

}  // namespace cpp_host::openvino
