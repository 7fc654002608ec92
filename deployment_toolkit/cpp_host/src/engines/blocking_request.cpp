#include "blocking_request.h"

#include <utility>

namespace cpp_host {

BlockingRequest::~BlockingRequest() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(guard_);
    ended_ = true;
  }
  told_.notify_one();
  thread_.join();
}

void BlockingRequest::start(void (*done)(void*), void* argument) {
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  {
    const std::lock_guard<std::mutex> lock(guard_);
    done_ = done;
    argument_ = argument;
    failed_ = nullptr;
  }
  told_.notify_one();
}

void BlockingRequest::wait() {
  if (failed_) std::rethrow_exception(std::exchange(failed_, nullptr));
}

void BlockingRequest::work() {
  std::unique_lock<std::mutex> lock(guard_);
  while (true) {
    told_.wait(lock, [&] { return ended_ || done_ != nullptr; });
    if (ended_) return;
    const auto done = std::exchange(done_, nullptr);
    lock.unlock();
    try {
      infer();
    } catch (...) {
      failed_ = std::current_exception();
    }
    done(argument_);
    lock.lock();
  }
}

}  // namespace cpp_host
