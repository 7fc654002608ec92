// Models of ONNX Runtime. A session has a pool of threads and runs any number of inferences at the same time, so there is
// one session for each number of threads; all sessions of a model share its tables.
#include <map>
#include <mutex>

#include "../../failure.h"
#include "../blocking_request.h"
#include "api.h"
#include "tables.h"

namespace cpp_host::onnxruntime {
namespace {

int element_type(TRITONSERVER_DataType type) {
  switch (type) {
    case TRITONSERVER_TYPE_BOOL: return kBool;
    case TRITONSERVER_TYPE_UINT8: return kUint8;
    case TRITONSERVER_TYPE_INT8: return kInt8;
    case TRITONSERVER_TYPE_INT16: return kInt16;
    case TRITONSERVER_TYPE_INT32: return kInt32;
    case TRITONSERVER_TYPE_INT64: return kInt64;
    case TRITONSERVER_TYPE_FP16: return kHalf;
    case TRITONSERVER_TYPE_FP32: return kFloat;
    case TRITONSERVER_TYPE_FP64: return kDouble;
    default: throw bad_request("a tensor is of a type that ONNX Runtime is not asked for");
  }
}

class OnnxRequest final : public BlockingRequest {
 public:
  OnnxRequest(SessionHandle* session, const ModelConfig& config)
      : session_(session), config_(config), inputs_(config.engine_inputs.size()), outputs_(config.outputs.size()) {
    for (const TensorSpec& spec : config.engine_inputs) input_names_.push_back(spec.name.c_str());
    for (const TensorSpec& spec : config.outputs) output_names_.push_back(spec.name.c_str());
    input_values_.resize(inputs_.size());
    output_values_.resize(outputs_.size());
  }

  void set_input(size_t index, const std::vector<int64_t>& shape, const char* data) override {
    const TensorSpec& spec = config_.engine_inputs[index];
    inputs_[index] = tensor_of(element_type(spec.type), shape.data(), shape.size(), data, bytes_of(spec, shape));
    input_values_[index] = inputs_[index].get();
  }

  void infer() override {
    for (size_t i = 0; i < outputs_.size(); ++i) {
      outputs_[i].reset();
      output_values_[i] = nullptr;
    }
    Status* status = api().run(
        session_, nullptr, input_names_.data(), input_values_.data(), inputs_.size(), output_names_.data(), outputs_.size(),
        output_values_.data());
    for (size_t i = 0; i < outputs_.size(); ++i) outputs_[i].reset(output_values_[i]);
    require(status, "inference");
  }

  Answer output(size_t index) override {
    Value* const value = outputs_[index].get();
    TensorInfo* info = nullptr;
    require(api().get_tensor_info(value, &info), "output");
    const OwnedInfo owned(info);
    int type = 0;
    require(api().get_element_type(info, &type), "output");
    if (type != element_type(config_.outputs[index].type)) {
      throw bad_request("output " + config_.outputs[index].name + " of the model is of another type than the configuration's");
    }
    size_t rank = 0;
    require(api().get_rank(info, &rank), "output");
    Answer answer{std::vector<int64_t>(rank), nullptr};
    require(api().get_shape(info, answer.shape.data(), rank), "output");
    void* data = nullptr;
    require(api().get_tensor_data(value, &data), "output");
    answer.data = static_cast<const char*>(data);
    return answer;
  }

 private:
  SessionHandle* const session_;
  const ModelConfig& config_;
  std::vector<const char*> input_names_, output_names_;
  std::vector<OwnedValue> inputs_, outputs_;
  std::vector<const Value*> input_values_;
  std::vector<Value*> output_values_;
};

std::vector<Table> read(const std::string& path) {
  try {
    return read_tables(path);
  } catch (const Failure& failure) {
    throw Failure(failure.code(), path + " can't be read: " + failure.what());
  }
}

class OnnxEngine final : public Engine {
 public:
  OnnxEngine(const std::string& path, const ModelConfig& config) : path_(path), config_(config), tables_(read(path)) {}

  std::unique_ptr<Request> make_request(int threads) override {
    const std::lock_guard<std::mutex> lock(guard_);
    OwnedSession& session = sessions_[threads];
    if (session == nullptr) session = open(threads);
    return std::make_unique<OnnxRequest>(session.get(), config_);
  }

 private:
  OwnedSession open(int threads) const {
    SessionOptions* made = nullptr;
    require(api().create_session_options(&made), "options of a session");
    const OwnedOptions options(made);
    require(api().set_intra_op_num_threads(made, threads), "threads of a session");
    // Between two inferences the threads leave the cores to the other sessions, the server and the clients.
    require(api().add_config_entry(made, "session.force_spinning_stop", "1"), "spinning of a session");
    for (const Table& table : tables_) require(api().add_initializer(made, table.name.c_str(), table.value.get()), table.name);
    SessionHandle* session = nullptr;
    require(api().create_session(api().environment, path_.c_str(), made, &session), path_ + " can't be loaded");
    return OwnedSession(session);
  }

  const std::string path_;
  const ModelConfig& config_;
  const std::vector<Table> tables_;
  std::mutex guard_;
  std::map<int, OwnedSession> sessions_;  // by their threads
};

}  // namespace
}  // namespace cpp_host::onnxruntime

namespace cpp_host {

std::unique_ptr<Engine> open_onnxruntime(const std::string& path, const ModelConfig& config) {
  if (config.precision == "bf16") throw bad_request("ONNX Runtime has no arithmetic in bf16: use f32, or the format openvino");
  return std::make_unique<onnxruntime::OnnxEngine>(path, config);
}

}  // namespace cpp_host
