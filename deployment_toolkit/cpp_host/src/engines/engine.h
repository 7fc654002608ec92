// What this host asks of an inference library: an engine is a loaded model, a request runs one inference at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../model_config.h"

namespace cpp_host {

// Content of an output, until the next inference of its request.
struct Answer {
  std::vector<int64_t> shape;
  const char* data;
};

// Bytes of rows of this shape.
inline size_t bytes_of(const TensorSpec& spec, const std::vector<int64_t>& shape) {
  size_t bytes = spec.element_bytes;
  for (const int64_t size : shape) bytes *= static_cast<size_t>(size);
  return bytes;
}

// Inputs and outputs are counted in the order of the configuration. Errors are Failures.
class Request {
 public:
  virtual ~Request() = default;

  // Sets an input to rows at data, which are not copied: each inference reads them until another input is set.
  virtual void set_input(size_t index, const std::vector<int64_t>& shape, const char* data) = 0;

  // True if infer works; else only start does.
  virtual bool runs_here() const = 0;
  // Runs in the caller's thread, with the help of others.
  virtual void infer() = 0;
  // Runs in another thread, which calls done(argument) at the end, also after an error. Then wait throws the error.
  virtual void start(void (*done)(void*), void* argument) = 0;
  virtual void wait() = 0;

  virtual Answer output(size_t index) = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;

  // Request that computes with so many threads. Requests of one engine run concurrently and share its tables. The engine
  // outlives them.
  virtual std::unique_ptr<Request> make_request(int threads) = 0;

  // Called after the first inference of the process.
  virtual void has_started() {}
};

// Loads a model of the format that the configuration names. Throws Failure if this host has no engine for the format,
// its library is not installed, or the model can't be read or lacks the tensors of the configuration.
std::unique_ptr<Engine> open_engine(const std::string& path, const ModelConfig& config);

}  // namespace cpp_host
