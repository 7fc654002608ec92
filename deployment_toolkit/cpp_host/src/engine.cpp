#include "engine.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "failure.h"

namespace cpp_host {
namespace {

void require(ov_status_e status, const std::string& what) {
  if (status == OK) return;
  const char* said = ov_get_last_err_msg();
  std::string reason = said != nullptr && *said != '\0' ? said : ov_get_error_info(status);
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  throw Failure(TRITONSERVER_ERROR_INTERNAL, what + ": " + reason);
}

ov_element_type_e element_type(TRITONSERVER_DataType type) {
  switch (type) {
    case TRITONSERVER_TYPE_BOOL: return BOOLEAN;
    case TRITONSERVER_TYPE_UINT8: return U8;
    case TRITONSERVER_TYPE_INT8: return I8;
    case TRITONSERVER_TYPE_INT16: return I16;
    case TRITONSERVER_TYPE_INT32: return I32;
    case TRITONSERVER_TYPE_INT64: return I64;
    case TRITONSERVER_TYPE_FP16: return F16;
    case TRITONSERVER_TYPE_FP32: return F32;
    case TRITONSERVER_TYPE_FP64: return F64;
    default: return DYNAMIC;
  }
}

// oneDNN caches built kernels for all engines of a process. Concurrent streams must not share kernels, so the cache is
// off and each stream has its own. The variable is read when the first kernel is built.
constexpr const char* kKernelCache = "ONEDNN_PRIMITIVE_CACHE_CAPACITY";

// The single core of the process, kept until its end: the plugin's threads outlive any model.
ov_core_t* core() {
  static ov_core_t* const kept = [] {
    ov_core_t* made = nullptr;
    setenv(kKernelCache, "0", 1);
    require(ov_core_create(&made), "OpenVINO does not start");
    return made;
  }();
  return kept;
}

Port port(ov_status_e status, ov_output_const_port_t* found, const TensorSpec& spec, const char* what) {
  require(status, std::string("the model has no ") + what + " " + spec.name);
  Port owned(found);
  ov_element_type_e type = DYNAMIC;
  require(ov_port_get_element_type(found, &type), spec.name);
  if (type != element_type(spec.type)) {
    throw bad_request(std::string(what) + " " + spec.name + " of the model is of another type than the configuration's");
  }
  return owned;
}

}  // namespace

void leave_environment() { unsetenv(kKernelCache); }

Tensor tensor_of(const TensorSpec& spec, const std::vector<int64_t>& shape, void* data) {
  // The C API's shape is not const, but it is not written to.
  const ov_shape_t ov_shape{static_cast<int64_t>(shape.size()), const_cast<int64_t*>(shape.data())};
  ov_tensor_t* tensor = nullptr;
  require(ov_tensor_create_from_host_ptr(element_type(spec.type), ov_shape, data, &tensor), spec.name);
  return Tensor(tensor);
}

Graph::Graph(const std::string& path) : path_(path) {
  ov_model_t* model = nullptr;
  require(ov_core_read_model(core(), path.c_str(), nullptr, &model), path + " can't be read");
  model_.reset(model);
}

Engine::Engine(const Graph& graph, const ModelConfig& config, int threads) {
  // No thread is bound to a core: models, server and clients share them.
  const std::string threads_text = std::to_string(threads);
  const ov_property_t properties[] = {
      {ov_property_key_hint_inference_precision, config.precision.c_str()},
      {ov_property_key_inference_num_threads, threads_text.c_str()},
      {ov_property_key_num_streams, "1"},
      {ov_property_key_hint_enable_cpu_pinning, "NO"},
  };
  ov_compiled_model_t* compiled = nullptr;
  require(
      ov_core_compile_model_props(core(), graph.model(), "CPU", std::size(properties), properties, &compiled),
      graph.path() + " can't be compiled");
  compiled_.reset(compiled);
  for (const TensorSpec& spec : config.inputs) {
    ov_output_const_port_t* found = nullptr;
    const ov_status_e status = ov_compiled_model_input_by_name(compiled, spec.name.c_str(), &found);
    inputs_.push_back(port(status, found, spec, "input"));
  }
  for (const TensorSpec& spec : config.outputs) {
    ov_output_const_port_t* found = nullptr;
    const ov_status_e status = ov_compiled_model_output_by_name(compiled, spec.name.c_str(), &found);
    outputs_.push_back(port(status, found, spec, "output"));
  }
}

InferRequest::InferRequest(const Engine& engine) : engine_(engine) {
  ov_infer_request_t* request = nullptr;
  require(ov_compiled_model_create_infer_request(engine.compiled(), &request), "no inference request");
  request_.reset(request);
}

void InferRequest::set_input(size_t index, const ov_tensor_t* tensor) {
  require(ov_infer_request_set_tensor_by_const_port(request_.get(), engine_.input(index), tensor), "set input");
}

void InferRequest::infer() { require(ov_infer_request_infer(request_.get()), "inference"); }

void InferRequest::start(void (*done)(void*), void* argument) {
  callback_ = {done, argument};
  require(ov_infer_request_set_callback(request_.get(), &callback_), "callback of inference");
  require(ov_infer_request_start_async(request_.get()), "start of inference");
}

void InferRequest::wait() { require(ov_infer_request_wait(request_.get()), "inference"); }

Answer InferRequest::output(size_t index) const {
  ov_tensor_t* tensor = nullptr;
  require(ov_infer_request_get_tensor_by_const_port(request_.get(), engine_.output(index), &tensor), "get output");
  Answer answer{Tensor(tensor), {}, nullptr};
  ov_shape_t shape{};
  require(ov_tensor_get_shape(tensor, &shape), "shape of output");
  answer.shape.assign(shape.dims, shape.dims + shape.rank);
  ov_shape_free(&shape);
  void* data = nullptr;
  require(ov_tensor_data(tensor, &data), "data of output");
  answer.data = static_cast<const char*>(data);
  return answer;
}

}  // namespace cpp_host
