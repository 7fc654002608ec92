// OpenVINO through its C API: a class for each resource, an exception for each error.
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

// To be called after the first inference: what was set for it in the process's environment is no model process's.
void leave_environment();

// A view of rows that lie at data, which must outlive it.
Tensor tensor_of(const TensorSpec& spec, const std::vector<int64_t>& shape, void* data);

// A model as it lies in a file, with its weights.
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

// The compiled graph; engines of one graph share its tables.
class Engine {
 public:
  // Computes one batch at a time, with so many threads. Throws Failure if the graph can't be compiled, or has not the
  // tensors of the configuration.
  Engine(const Graph& graph, const ModelConfig& config, int threads);

  ov_compiled_model_t* compiled() const { return compiled_.get(); }
  const ov_output_const_port_t* input(size_t index) const { return inputs_[index].get(); }
  const ov_output_const_port_t* output(size_t index) const { return outputs_[index].get(); }

 private:
  std::unique_ptr<ov_compiled_model_t, Freed<ov_compiled_model_free>> compiled_;
  std::vector<Port> inputs_, outputs_;  // in the order of the configuration
};

// What an output holds until the next inference.
struct Answer {
  Tensor tensor;
  std::vector<int64_t> shape;
  const char* data;
};

// One inference at a time on an engine.
class InferRequest {
 public:
  explicit InferRequest(const Engine& engine);

  // The tensor is read at each inference until another is set.
  void set_input(size_t index, const ov_tensor_t* tensor);
  // In the caller's thread and others. Only for engines of several threads: with one, OpenVINO 2026.4 drops whatever goes
  // wrong, and the answers of another batch stand in the outputs.
  void infer();
  // In a thread of the engine's, which calls done(argument) at the end, however it ends. Then wait throws Failure if it
  // failed.
  void start(void (*done)(void*), void* argument);
  void wait();
  Answer output(size_t index) const;

 private:
  const Engine& engine_;
  ov_callback_t callback_{};  // read, by its address, whenever an inference ends
  std::unique_ptr<ov_infer_request_t, Freed<ov_infer_request_free>> request_;
};

}  // namespace cpp_host
