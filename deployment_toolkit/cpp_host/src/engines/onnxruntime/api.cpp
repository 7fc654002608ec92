#include "api.h"

#include <algorithm>

#include "../../failure.h"

namespace cpp_host::onnxruntime {
namespace {

constexpr uint32_t kVersion = 15;  // of the API, in which every function above has its place
constexpr int kErrorsOnly = 3, kDeviceAllocator = 0, kDefaultMemory = 0;

struct ApiBase {
  const void* const* (*get_api)(uint32_t version);
  const char* (*get_version)();
};

void require_of(const Api& api, Status* status, const std::string& what) {
  if (status == nullptr) return;
  std::string reason = api.get_error_message(status);
  api.release_status(status);
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  throw Failure(TRITONSERVER_ERROR_INTERNAL, what + ": " + reason);
}

}  // namespace

Api::Api() {
  const SharedLibrary library("ONNX Runtime", ONNXRUNTIME_LIBRARY);
  const ApiBase* (*get_base)() = nullptr;
  library.find("OrtGetApiBase", get_base);
  const void* const* const table = get_base()->get_api(kVersion);
  if (table == nullptr) {
    throw Failure(
        TRITONSERVER_ERROR_UNSUPPORTED, std::string("ONNX Runtime ") + get_base()->get_version() +
                                            " is older than 1.15: run scripts/install.sh");
  }
#define FIND(place, name, result, arguments) name = reinterpret_cast<result(*) arguments>(const_cast<void*>(table[place]));
  ONNXRUNTIME_FUNCTIONS(FIND)
#undef FIND
  Environment* made = nullptr;
  MemoryInfo* info = nullptr;
  require_of(*this, create_env(kErrorsOnly, "cpp_host", &made), "ONNX Runtime does not start");
  require_of(*this, create_cpu_memory_info(kDeviceAllocator, kDefaultMemory, &info), "ONNX Runtime's memory");
  environment = made;
  memory_info = info;
}

const Api& api() {
  static const Api opened;
  return opened;
}

void require(Status* status, const std::string& what) { require_of(api(), status, what); }

OwnedValue tensor_of(int element_type, const int64_t* shape, size_t rank, const void* data, size_t bytes) {
  Value* value = nullptr;
  require(
      api().create_tensor(api().memory_info, const_cast<void*>(data), bytes, shape, rank, element_type, &value), "tensor");
  return OwnedValue(value);
}

}  // namespace cpp_host::onnxruntime
