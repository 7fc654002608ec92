// What goes wrong: an exception on this side, one of Triton's error objects on the other.
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

// Throws what a call of Triton's API answered, unless that was success.
inline void require(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  Failure failure(TRITONSERVER_ErrorCode(error), TRITONSERVER_ErrorMessage(error));
  TRITONSERVER_ErrorDelete(error);
  throw failure;
}

inline void log_info(const std::string& message) {
  TRITONSERVER_ErrorDelete(TRITONSERVER_LogMessage(TRITONSERVER_LOG_INFO, "cpp_host", 0, message.c_str()));
}

// Where nothing can be done about an error: the server hears of it.
inline void log_if(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  TRITONSERVER_ErrorDelete(
      TRITONSERVER_LogMessage(TRITONSERVER_LOG_ERROR, "cpp_host", 0, TRITONSERVER_ErrorMessage(error)));
  TRITONSERVER_ErrorDelete(error);
}

// Runs what an entry point does; no exception may cross into the server.
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
