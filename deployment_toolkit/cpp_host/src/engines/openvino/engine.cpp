// Models of OpenVINO. Each request has a compilation of its own, so concurrent requests share neither the kernels for a
// batch size nor the rearranged weights and can't disturb each other; they share the tables.
#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "../../failure.h"
#include "../engine.h"
#include "api.h"

namespace cpp_host::openvino {
namespace {

void require(ov_status_e status, const std::string& what) {
  if (status == OK) return;
  const char* said = api().ov_get_last_err_msg();
  std::string reason = said != nullptr && *said != '\0' ? said : api().ov_get_error_info(status);
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

// oneDNN caches built kernels for all compilations of a process. Concurrent requests must not share kernels, so the
// cache is off. The variable is read when the first kernel is built.
constexpr const char* kKernelCache = "ONEDNN_PRIMITIVE_CACHE_CAPACITY";

// The single core of the process, kept until its end: the plugin's threads outlive any model.
ov_core_t* core() {
  static ov_core_t* const kept = [] {
    ov_core_t* made = nullptr;
    setenv(kKernelCache, "0", 1);
    require(api().ov_core_create(&made), "OpenVINO does not start");
    return made;
  }();
  return kept;
}

Graph read(const std::string& path) {
  ov_model_t* model = nullptr;
  require(api().ov_core_read_model(core(), path.c_str(), nullptr, &model), path + " can't be read");
  return Graph(model);
}

Port port(ov_status_e status, ov_output_const_port_t* found, const TensorSpec& spec, const char* what) {
  require(status, std::string("the model has no ") + what + " " + spec.name);
  Port owned(found);
  ov_element_type_e type = DYNAMIC;
  require(api().ov_port_get_element_type(found, &type), spec.name);
  if (type != element_type(spec.type)) {
    throw bad_request(std::string(what) + " " + spec.name + " of the model is of another type than the configuration's");
  }
  return owned;
}

class OpenVinoRequest final : public Request {
 public:
  OpenVinoRequest(const ov_model_t* graph, const std::string& path, const ModelConfig& config, int threads)
      : config_(config), several_threads_(threads > 1) {
    // No thread is bound to a core: models, server and clients share them.
    const std::string threads_text = std::to_string(threads);
    const ov_property_t properties[] = {
        {"INFERENCE_PRECISION_HINT", config.precision.c_str()},
        {"INFERENCE_NUM_THREADS", threads_text.c_str()},
        {"NUM_STREAMS", "1"},
        {"ENABLE_CPU_PINNING", "NO"},
    };
    ov_compiled_model_t* compiled = nullptr;
    require(
        api().ov_core_compile_model_props(core(), graph, "CPU", std::size(properties), properties, &compiled),
        path + " can't be compiled");
    compiled_.reset(compiled);
    for (const TensorSpec& spec : config.engine_inputs) {
      ov_output_const_port_t* found = nullptr;
      const ov_status_e status = api().ov_compiled_model_input_by_name(compiled, spec.name.c_str(), &found);
      inputs_.push_back({port(status, found, spec, "input"), nullptr});
    }
    for (const TensorSpec& spec : config.outputs) {
      ov_output_const_port_t* found = nullptr;
      const ov_status_e status = api().ov_compiled_model_output_by_name(compiled, spec.name.c_str(), &found);
      outputs_.push_back({port(status, found, spec, "output"), nullptr});
    }
    ov_infer_request_t* request = nullptr;
    require(api().ov_compiled_model_create_infer_request(compiled, &request), "no inference request");
    request_.reset(request);
  }

  void set_input(size_t index, const std::vector<int64_t>& shape, const char* data) override {
    // The C API's pointers are not const, but neither shape nor data is written to.
    const ov_shape_t ov_shape{static_cast<int64_t>(shape.size()), const_cast<int64_t*>(shape.data())};
    const TensorSpec& spec = config_.engine_inputs[index];
    ov_tensor_t* made = nullptr;
    require(
        api().ov_tensor_create_from_host_ptr(element_type(spec.type), ov_shape, const_cast<char*>(data), &made), spec.name);
    Tensor tensor(made);
    require(
        api().ov_infer_request_set_tensor_by_const_port(request_.get(), inputs_[index].port.get(), made), "set input");
    inputs_[index].tensor = std::move(tensor);
  }

  // With one thread, OpenVINO 2026.4 drops the errors of infer, and the outputs hold the answers of another batch.
  bool runs_here() const override { return several_threads_; }

  void infer() override { require(api().ov_infer_request_infer(request_.get()), "inference"); }

  void start(void (*done)(void*), void* argument) override {
    callback_ = {done, argument};
    require(api().ov_infer_request_set_callback(request_.get(), &callback_), "callback of inference");
    require(api().ov_infer_request_start_async(request_.get()), "start of inference");
  }

  void wait() override { require(api().ov_infer_request_wait(request_.get()), "inference"); }

  Answer output(size_t index) override {
    ov_tensor_t* tensor = nullptr;
    require(
        api().ov_infer_request_get_tensor_by_const_port(request_.get(), outputs_[index].port.get(), &tensor), "get output");
    outputs_[index].tensor.reset(tensor);
    ov_shape_t shape{};
    require(api().ov_tensor_get_shape(tensor, &shape), "shape of output");
    Answer answer{{shape.dims, shape.dims + shape.rank}, nullptr};
    api().ov_shape_free(&shape);
    void* data = nullptr;
    require(api().ov_tensor_data(tensor, &data), "data of output");
    answer.data = static_cast<const char*>(data);
    return answer;
  }

 private:
  struct Bound {
    Port port;
    Tensor tensor;
  };

  const ModelConfig& config_;
  const bool several_threads_;
  CompiledModel compiled_;
  std::vector<Bound> inputs_, outputs_;  // in the order of the configuration
  ov_callback_t callback_{};             // read through its address at the end of each inference
  InferRequest request_;
};

class OpenVinoEngine final : public Engine {
 public:
  OpenVinoEngine(const std::string& path, const ModelConfig& config) : path_(path), config_(config), graph_(read(path)) {}

  std::unique_ptr<Request> make_request(int threads) override {
    return std::make_unique<OpenVinoRequest>(graph_.get(), path_, config_, threads);
  }

  // Model processes must not inherit the variable.
  void has_started() override { unsetenv(kKernelCache); }

 private:
  const std::string path_;
  const ModelConfig& config_;
  const Graph graph_;  // with its weights
};

}  // namespace
}  // namespace cpp_host::openvino

namespace cpp_host {

std::unique_ptr<Engine> open_openvino(const std::string& path, const ModelConfig& config) {
  return std::make_unique<openvino::OpenVinoEngine>(path, config);
}

}  // namespace cpp_host
