// Refuses requests whose shapes Triton would misread, before any model sees them. Triton (2.51) keeps a batch dimension
// in 32 bits: [2^32, 1] is a request of no rows with the bytes of one, which a model gets without a batch dimension.
// Triton multiplies dimensions without a look at overflow: [2^62 + 1, 1] of float32 needs the bytes of one row, and a
// process of the Python backend dies of it. The server's front ends call this function for each input.

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct TRITONSERVER_Error;
struct TRITONSERVER_InferenceRequest;

namespace {

constexpr int64_t kMost = INT32_MAX;
constexpr int kInvalidArgument = 3;  // TRITONSERVER_ERROR_INVALID_ARG

/// True if each dimension, and their product, is from 0 to kMost.
bool is_countable(const int64_t* shape, uint64_t rank) {
  int64_t elements = 1;
  bool is_empty = false;
  for (uint64_t i = 0; i < rank; ++i) {
    if (shape[i] < 0 || shape[i] > kMost) return false;
    is_empty |= shape[i] == 0;
    if (__builtin_mul_overflow(elements, shape[i] == 0 ? 1 : shape[i], &elements)) elements = INT64_MAX;
  }
  return is_empty || elements <= kMost;
}

template <typename Function>
Function found(const char* name) {
  const auto function = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
  if (function == nullptr) abort();  // only the server, which has it, calls this
  return function;
}

TRITONSERVER_Error* refusal(const char* name) {
  using New = TRITONSERVER_Error* (*)(int, const char*);
  char told[512];
  snprintf(
      told, sizeof told, "input %.200s has an impossible shape: each dimension and their product must be from 0 to %lld",
      name, static_cast<long long>(kMost));
  return found<New>("TRITONSERVER_ErrorNew")(kInvalidArgument, told);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) TRITONSERVER_Error* TRITONSERVER_InferenceRequestAddInput(
    TRITONSERVER_InferenceRequest* request, const char* name, int datatype, const int64_t* shape, uint64_t rank) {
  using Add = TRITONSERVER_Error* (*)(TRITONSERVER_InferenceRequest*, const char*, int, const int64_t*, uint64_t);
  static const Add add = found<Add>("TRITONSERVER_InferenceRequestAddInput");
  return is_countable(shape, rank) ? add(request, name, datatype, shape, rank) : refusal(name);
}
