// Models of TensorFlow: one session, which runs any number of inferences at the same time.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "../../failure.h"
#include "../blocking_request.h"
#include "api.h"
#include "signature.h"

namespace cpp_host::tensorflow {
namespace {

TF_DataType data_type(TRITONSERVER_DataType type) {
  switch (type) {
    case TRITONSERVER_TYPE_BOOL: return TF_BOOL;
    case TRITONSERVER_TYPE_UINT8: return TF_UINT8;
    case TRITONSERVER_TYPE_INT8: return TF_INT8;
    case TRITONSERVER_TYPE_INT16: return TF_INT16;
    case TRITONSERVER_TYPE_INT32: return TF_INT32;
    case TRITONSERVER_TYPE_INT64: return TF_INT64;
    case TRITONSERVER_TYPE_FP16: return TF_HALF;
    case TRITONSERVER_TYPE_FP32: return TF_FLOAT;
    case TRITONSERVER_TYPE_FP64: return TF_DOUBLE;
    default: throw bad_request("a tensor is of a type that TensorFlow is not asked for");
  }
}

// Serialized ConfigProto: device_count (1) with no GPU, intra_op_parallelism_threads (2), inter_op_parallelism_threads (5)
// 1 and, for bf16, graph_options (10) . rewrite_options (10) . auto_mixed_precision_onednn_bfloat16 (31) ON. Source:
// config.proto and rewriter_config.proto.
std::string session_config(int threads, bool bfloat16) {
  using namespace std::string_literals;
  std::string config = "\x0a\x07\x0a\x03GPU\x10\x00\x10"s;
  for (unsigned left = static_cast<unsigned>(threads); ; left >>= 7) {
    config += static_cast<char>(left < 0x80 ? left : (left & 0x7f) | 0x80);
    if (left < 0x80) break;
  }
  config += "\x28\x01";
  if (bfloat16) config += "\x52\x05\x52\x03\xf8\x01\x01";
  return config;
}

// Serialized RunOptions: inter_op_thread_pool (3) -1, so the graph runs in the caller's thread.
constexpr unsigned char kInCallersThread[] = {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};

struct CloseSession {
  void operator()(TF_Session* session) const {
    const Status status;
    api().TF_CloseSession(session, status.get());
    api().TF_DeleteSession(session, status.get());
  }
};

// TensorFlow takes letters of a path for a pattern when it looks for the weights. An open folder has a path without them.
class OpenFolder {
 public:
  explicit OpenFolder(const std::string& path)
      : file_(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
        path_(file_ < 0 ? path : "/proc/self/fd/" + std::to_string(file_)) {}
  OpenFolder(const OpenFolder&) = delete;
  ~OpenFolder() {
    if (file_ >= 0) close(file_);
  }

  const char* path() const { return path_.c_str(); }

 private:
  const int file_;
  const std::string path_;
};

class Session {
 public:
  Session(const std::string& path, const ModelConfig& config) : graph_(api().TF_NewGraph()) {
    const Options options(api().TF_NewSessionOptions());
    const Status status;
    const std::string settings = session_config(config.threads, config.precision == "bf16");
    api().TF_SetConfig(options.get(), settings.data(), settings.size(), status.get());
    status.require("settings of a session");
    const char* const tags[] = {"serve"};
    const Buffer meta_graph(api().TF_NewBuffer());
    const OpenFolder folder(path);
    session_.reset(api().TF_LoadSessionFromSavedModel(
        options.get(), nullptr, folder.path(), tags, 1, graph_.get(), meta_graph.get(), status.get()));
    status.require(path + " can't be loaded");
    const Signature signature = Signature::parse({static_cast<const char*>(meta_graph->data), meta_graph->length});
    for (const TensorSpec& spec : config.engine_inputs) inputs_.push_back(find(signature.inputs, spec, "input"));
    for (const TensorSpec& spec : config.outputs) outputs_.push_back(find(signature.outputs, spec, "output"));
  }

  void run(const std::vector<TF_Tensor*>& inputs, std::vector<TF_Tensor*>& outputs) const {
    const Status status;
    api().TF_SessionRun(
        session_.get(), run_options_.get(), inputs_.data(), inputs.data(), static_cast<int>(inputs.size()), outputs_.data(),
        outputs.data(), static_cast<int>(outputs.size()), nullptr, 0, nullptr, status.get());
    status.require("inference");
  }

 private:
  TF_Output find(const std::map<std::string, GraphTensor>& tensors, const TensorSpec& spec, const char* what) const {
    const auto found = tensors.find(spec.name);
    if (found == tensors.end()) throw bad_request(std::string("the model has no ") + what + " " + spec.name);
    const GraphTensor& tensor = found->second;
    if (tensor.type != data_type(spec.type)) {
      throw bad_request(std::string(what) + " " + spec.name + " of the model is of another type than the configuration's");
    }
    TF_Operation* const operation = api().TF_GraphOperationByName(graph_.get(), tensor.operation.c_str());
    if (operation == nullptr) throw bad_request("the model's graph has no operation " + tensor.operation);
    return {operation, tensor.index};
  }

  const Graph graph_;
  const Buffer run_options_{api().TF_NewBufferFromString(kInCallersThread, sizeof kInCallersThread)};
  std::unique_ptr<TF_Session, CloseSession> session_;
  std::vector<TF_Output> inputs_, outputs_;
};

class TensorFlowRequest final : public BlockingRequest {
 public:
  TensorFlowRequest(const Session& session, const ModelConfig& config)
      : session_(session), config_(config), inputs_(config.engine_inputs.size()), outputs_(config.outputs.size()),
        input_tensors_(inputs_.size()), output_tensors_(outputs_.size()) {}

  void set_input(size_t index, const std::vector<int64_t>& shape, const char* data) override {
    const TensorSpec& spec = config_.engine_inputs[index];
    TF_Tensor* const tensor = api().TF_NewTensor(
        data_type(spec.type), shape.data(), static_cast<int>(shape.size()), const_cast<char*>(data),
        bytes_of(spec, shape), [](void*, size_t, void*) {}, nullptr);
    if (tensor == nullptr) throw Failure(TRITONSERVER_ERROR_INTERNAL, "input " + spec.name + " can't be given to TensorFlow");
    inputs_[index].reset(tensor);
    input_tensors_[index] = tensor;
  }

  void infer() override {
    std::fill(output_tensors_.begin(), output_tensors_.end(), nullptr);
    session_.run(input_tensors_, output_tensors_);
    for (size_t i = 0; i < outputs_.size(); ++i) outputs_[i].reset(output_tensors_[i]);
  }

  Answer output(size_t index) override {
    TF_Tensor* const tensor = outputs_[index].get();
    Answer answer{{}, static_cast<const char*>(api().TF_TensorData(tensor))};
    const int rank = api().TF_NumDims(tensor);
    for (int i = 0; i < rank; ++i) answer.shape.push_back(api().TF_Dim(tensor, i));
    return answer;
  }

 private:
  const Session& session_;
  const ModelConfig& config_;
  std::vector<Tensor> inputs_, outputs_;
  std::vector<TF_Tensor*> input_tensors_, output_tensors_;
};

class TensorFlowEngine final : public Engine {
 public:
  TensorFlowEngine(const std::string& path, const ModelConfig& config) : config_(config), session_(path, config) {}

  // All threads of the model are those of its session.
  std::unique_ptr<Request> make_request(int) override { return std::make_unique<TensorFlowRequest>(session_, config_); }

  // Model processes must not inherit the variable, which the library has read by now.
  void has_started() override { unsetenv(kOwnThreads); }

 private:
  const ModelConfig& config_;
  const Session session_;
};

}  // namespace
}  // namespace cpp_host::tensorflow

namespace cpp_host {

std::unique_ptr<Engine> open_tensorflow(const std::string& path, const ModelConfig& config) {
  return std::make_unique<tensorflow::TensorFlowEngine>(path, config);
}

}  // namespace cpp_host
