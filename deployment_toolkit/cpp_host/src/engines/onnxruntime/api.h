// The part of ONNX Runtime's C API that this host calls, declared here because the wheel has no header.
//
// The API is one table of functions, which only ever grows at its end: a function keeps its place. Places, arguments and
// numbers are those of onnxruntime_c_api.h of ONNX Runtime 1.15.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "../shared_library.h"

namespace cpp_host::onnxruntime {

struct Environment;
struct MemoryInfo;
struct SessionHandle;
struct SessionOptions;
struct Status;
struct TensorInfo;
struct Value;

enum ElementType : int {
  kFloat = 1, kUint8 = 2, kInt8 = 3, kInt16 = 5, kInt32 = 6, kInt64 = 7, kBool = 9, kHalf = 10, kDouble = 11,
};

// A function that fails returns a status, which the caller owns; null is success.
// USE(place in the table, name, result, arguments)
#define ONNXRUNTIME_FUNCTIONS(USE)                                                                                     \
  USE(2, get_error_message, const char*, (const Status*))                                                              \
  USE(3, create_env, Status*, (int log_level, const char* log_id, Environment**))                                      \
  USE(7, create_session, Status*, (const Environment*, const char* path, const SessionOptions*, SessionHandle**))      \
  USE(9, run, Status*,                                                                                                 \
      (SessionHandle*, const void* run_options, const char* const* input_names, const Value* const* inputs,            \
       size_t input_count, const char* const* output_names, size_t output_count, Value** outputs))                     \
  USE(10, create_session_options, Status*, (SessionOptions**))                                                         \
  USE(24, set_intra_op_num_threads, Status*, (SessionOptions*, int))                                                   \
  USE(49, create_tensor, Status*,                                                                                      \
      (const MemoryInfo*, void* data, size_t bytes, const int64_t* shape, size_t rank, int element_type, Value**))     \
  USE(51, get_tensor_data, Status*, (Value*, void**))                                                                  \
  USE(60, get_element_type, Status*, (const TensorInfo*, int*))                                                        \
  USE(61, get_rank, Status*, (const TensorInfo*, size_t*))                                                             \
  USE(62, get_shape, Status*, (const TensorInfo*, int64_t*, size_t))                                                   \
  USE(65, get_tensor_info, Status*, (const Value*, TensorInfo**))                                                      \
  USE(69, create_cpu_memory_info, Status*, (int allocator_type, int memory_type, MemoryInfo**))                        \
  USE(93, release_status, void, (Status*))                                                                             \
  USE(95, release_session, void, (SessionHandle*))                                                                     \
  USE(96, release_value, void, (Value*))                                                                               \
  USE(99, release_tensor_info, void, (TensorInfo*))                                                                    \
  USE(100, release_session_options, void, (SessionOptions*))                                                           \
  USE(130, add_config_entry, Status*, (SessionOptions*, const char* key, const char* value))                           \
  USE(150, add_initializer, Status*, (SessionOptions*, const char* name, const Value*))

struct Api {
  // Throws Failure if the library can't be opened or is older than the declarations.
  Api();

#define DECLARE(place, name, result, arguments) result(*name) arguments;
  ONNXRUNTIME_FUNCTIONS(DECLARE)
#undef DECLARE

  const Environment* environment;   // both of the process
  const MemoryInfo* memory_info;
};

// The library, opened at the first call.
const Api& api();

// Throws the error that a function returned, if any.
void require(Status* status, const std::string& what);

using OwnedOptions = std::unique_ptr<SessionOptions, Freed<api, &Api::release_session_options>>;
using OwnedSession = std::unique_ptr<SessionHandle, Freed<api, &Api::release_session>>;
using OwnedValue = std::unique_ptr<Value, Freed<api, &Api::release_value>>;
using OwnedInfo = std::unique_ptr<TensorInfo, Freed<api, &Api::release_tensor_info>>;

// View of rows at data, which must outlive it and is only read.
OwnedValue tensor_of(int element_type, const int64_t* shape, size_t rank, const void* data, size_t bytes);

}  // namespace cpp_host::onnxruntime
