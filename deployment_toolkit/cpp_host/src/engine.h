// Wrapper of OpenVINO's C API: a class for each resource, an exception for each error.
#pragma once

#include <openvino/c/openvino.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model_config.h"

namespace cpp_host {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* resource) const {
    Free(resource);
  }
};

using Tensor = std::unique_ptr<ov_tensor_t, Freed<ov_tensor_free>>;
using Port = std::unique_ptr<ov_output_const_port_t, Freed<ov_output_const_port_free>>;

// Call it after the first inference: removes its variable from the environment, so that model processes don't inherit
// it.
void leave_environment();

// View of rows at data, which must outlive the view.
Tensor tensor_of(const TensorSpec& spec, const std::vector<int64_t>& shape, void* data);

// Model of a file, with its weights.
class Graph {
 public:
  // Throws Failure if the file can't be read.
  explicit Graph(const std::string& path);

  const ov_model_t* model() const { return model_.get(); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::unique_ptr<ov_model_t, Freed<ov_model_free>> model_;
};

// Compiled graph; engines of one graph share its tables.
class Engine {
 public:
  // Computes one batch at a time, with so many threads. Throws Failure if the graph can't be compiled, or lacks the
  // tensors of the configuration.
  Engine(const Graph& graph, const ModelConfig& config, int threads);

  ov_compiled_model_t* compiled() const { return compiled_.get(); }
  const ov_output_const_port_t* input(size_t index) const { return inputs_[index].get(); }
  const ov_output_const_port_t* output(size_t index) const { return outputs_[index].get(); }

 private:
  std::unique_ptr<ov_compiled_model_t, Freed<ov_compiled_model_free>> compiled_;
  std::vector<Port> inputs_, outputs_;  // in the order of the configuration
};

// Content of an output until the next inference.
struct Answer {
  Tensor tensor;
  std::vector<int64_t> shape;
  const char* data;
};

// Request that runs one inference at a time on an engine.
class InferRequest {
 public:
  explicit InferRequest(const Engine& engine);

  // Sets an input; each inference reads this tensor until another is set.
  void set_input(size_t index, const ov_tensor_t* tensor);
  // Runs in the caller's thread and others. Only for engines of several threads: with one thread, OpenVINO 2026.4 drops
  // errors, and the outputs hold the answers of another batch.
  void infer();
  // Runs in a thread of the engine, which calls done(argument) at the end, also after an error. Then wait throws
  // Failure if the inference failed.
  void start(void (*done)(void*), void* argument);
  void wait();
  Answer output(size_t index) const;

 private:
  const Engine& engine_;
  ov_callback_t callback_{};  // read through its address at the end of each inference
  std::unique_ptr<ov_infer_request_t, Freed<ov_infer_request_free>> request_;
};

}  // namespace cpp_host
