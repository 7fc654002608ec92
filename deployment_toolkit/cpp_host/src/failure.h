// Errors: exceptions in this library, error objects in Triton.
#pragma once

#include <stdexcept>
#include <string>

#include "triton_api.h"

namespace cpp_host {

class Failure : public std::runtime_error {
 public:
  Failure(TRITONSERVER_Error_Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  TRITONSERVER_Error_Code code() const { return code_; }

 private:
  TRITONSERVER_Error_Code code_;
};

inline Failure bad_request(const std::string& message) { return Failure(TRITONSERVER_ERROR_INVALID_ARG, message); }

// Throws the error that a call of Triton's API returned, if any.
inline void require(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  Failure failure(TRITONSERVER_ErrorCode(error), TRITONSERVER_ErrorMessage(error));
  TRITONSERVER_ErrorDelete(error);
  throw failure;
}

inline void log_info(const std::string& message) {
  TRITONSERVER_ErrorDelete(TRITONSERVER_LogMessage(TRITONSERVER_LOG_INFO, "cpp_host", 0, message.c_str()));
}

// Logs an error to which the caller can't react.
inline void log_if(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  TRITONSERVER_ErrorDelete(
      TRITONSERVER_LogMessage(TRITONSERVER_LOG_ERROR, "cpp_host", 0, TRITONSERVER_ErrorMessage(error)));
  TRITONSERVER_ErrorDelete(error);
}

// Runs the work of an entry point; no exception may reach the server.
template <typename Work>
TRITONSERVER_Error* guarded(Work work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const Failure& failure) {
    return TRITONSERVER_ErrorNew(failure.code(), failure.what());
  } catch (const std::exception& error) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, error.what());
  }
}

}  // namespace cpp_host
