// Request of a library whose only call blocks.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "engine.h"

namespace cpp_host {

// start hands infer to a thread of this request, which lives as long as it.
class BlockingRequest : public Request {
 public:
  ~BlockingRequest() override;

  bool runs_here() const final { return true; }
  void start(void (*done)(void*), void* argument) final;
  void wait() final;

 private:
  void work();

  std::thread thread_;
  std::mutex guard_;
  std::condition_variable told_;
  void (*done_)(void*) = nullptr;  // set while an inference is wanted
  void* argument_ = nullptr;
  bool ended_ = false;
  std::exception_ptr failed_;
};

}  // namespace cpp_host
