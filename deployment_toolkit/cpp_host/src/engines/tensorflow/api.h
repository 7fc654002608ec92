// Functions of TensorFlow's C API, found in its library when the first model needs them.
#pragma once

#include <tensorflow/c/c_api.h>

#include <memory>
#include <string>

#include "../shared_library.h"

namespace cpp_host::tensorflow {

#define TENSORFLOW_FUNCTIONS(USE)                                                                       \
  USE(TF_NewStatus) USE(TF_DeleteStatus) USE(TF_GetCode) USE(TF_Message) USE(TF_NewBuffer)              \
  USE(TF_NewBufferFromString) USE(TF_DeleteBuffer) USE(TF_NewSessionOptions) USE(TF_SetConfig)          \
  USE(TF_DeleteSessionOptions) USE(TF_NewGraph) USE(TF_DeleteGraph) USE(TF_LoadSessionFromSavedModel)   \
  USE(TF_CloseSession) USE(TF_DeleteSession) USE(TF_SessionRun) USE(TF_GraphOperationByName)            \
  USE(TF_NewTensor) USE(TF_DeleteTensor) USE(TF_TensorType) USE(TF_TensorData) USE(TF_NumDims) USE(TF_Dim)

struct Api {
  // Throws Failure if the library can't be opened or lacks a function.
  Api();

#define DECLARE(name) decltype(::name)* name;
  TENSORFLOW_FUNCTIONS(DECLARE)
#undef DECLARE
};

// Variable that gives each session threads of its own; else all have those of the first. It is read when the first session
// is made.
constexpr const char* kOwnThreads = "TF_OVERRIDE_GLOBAL_THREADPOOL";

// The library, opened at the first call.
const Api& api();

using Buffer = std::unique_ptr<TF_Buffer, Freed<api, &Api::TF_DeleteBuffer>>;
using Graph = std::unique_ptr<TF_Graph, Freed<api, &Api::TF_DeleteGraph>>;
using Options = std::unique_ptr<TF_SessionOptions, Freed<api, &Api::TF_DeleteSessionOptions>>;
using Tensor = std::unique_ptr<TF_Tensor, Freed<api, &Api::TF_DeleteTensor>>;

// Result of a call.
class Status {
 public:
  TF_Status* get() const { return status_.get(); }
  // Throws Failure if the call failed.
  void require(const std::string& what) const;

 private:
  std::unique_ptr<TF_Status, Freed<api, &Api::TF_DeleteStatus>> status_{api().TF_NewStatus()};
};

}  // namespace cpp_host::tensorflow
