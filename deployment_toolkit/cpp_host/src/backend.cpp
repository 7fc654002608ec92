// Entry points that Triton calls. A model has streams; its instances give batches to them.
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "batch.h"
#include "failure.h"
#include "model_config.h"
#include "shared_model.h"
#include "triton_api.h"

namespace cpp_host {
namespace {

uint64_t now_ns() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
}

ModelConfig config_of(TRITONBACKEND_Model* model) {
  TRITONSERVER_Message* message = nullptr;
  require(TRITONBACKEND_ModelConfig(model, 1, &message));
  const char* text = nullptr;
  size_t size = 0;
  TRITONSERVER_Error* error = TRITONSERVER_MessageSerializeToJson(message, &text, &size);
  const std::string json = error == nullptr ? std::string(text, size) : "";
  log_if(TRITONSERVER_MessageDelete(message));
  require(error);
  return ModelConfig::parse(json);
}

std::string version_folder(TRITONBACKEND_Model* model) {
  TRITONBACKEND_ArtifactType type = TRITONBACKEND_ARTIFACT_FILESYSTEM;
  const char* folder = nullptr;
  uint64_t version = 0;
  require(TRITONBACKEND_ModelRepository(model, &type, &folder));
  require(TRITONBACKEND_ModelVersion(model, &version));
  return std::string(folder) + "/" + std::to_string(version);
}

struct Model {
  explicit Model(TRITONBACKEND_Model* model)
      : config(config_of(model)), shared(load_shared(version_folder(model), config)) {}

  const ModelConfig config;
  const std::shared_ptr<SharedModel> shared;
};

// A request of a batch. Its answer is sent once, the outputs or an error; release() returns the request to Triton.
class Job {
 public:
  Job(TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request* request) : instance_(instance), request_(request) {}
  Job(const Job&) = delete;
  Job(Job&& other) noexcept
      : first_row(other.first_row), rows(other.rows), instance_(other.instance_), request_(other.request_),
        sent_(other.sent_), failed_(other.failed_) {
    other.request_ = nullptr;
  }

  TRITONBACKEND_Request* request() const { return request_; }
  bool failed() const { return failed_; }

  void fail(TRITONSERVER_Error_Code code, const char* message) {
    failed_ = true;
    if (sent_) return;
    sent_ = true;
    TRITONBACKEND_Response* response = nullptr;
    log_if(TRITONBACKEND_ResponseNew(&response, request_));
    if (response == nullptr) return;
    TRITONSERVER_Error* error = TRITONSERVER_ErrorNew(code, message);
    log_if(TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
    TRITONSERVER_ErrorDelete(error);
  }

  // Runs a step for this request; a failure becomes the answer of this request only.
  template <typename Step>
  void attempt(Step step) {
    if (failed_) return;
    try {
      step();
    } catch (const Failure& failure) {
      fail(failure.code(), failure.what());
    } catch (const std::exception& error) {
      fail(TRITONSERVER_ERROR_INTERNAL, error.what());
    }
  }

  void answer(const Answers& answers) {
    TRITONBACKEND_Response* response = nullptr;
    require(TRITONBACKEND_ResponseNew(&response, request_));
    try {
      for (size_t i = 0; i < answers.outputs(); ++i) {
        if (wants(answers.spec(i).name)) fill(response, answers, i);
      }
    } catch (...) {
      log_if(TRITONBACKEND_ResponseDelete(response));
      throw;
    }
    sent_ = true;
    require(TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, nullptr));
  }

  void release(uint64_t start_ns, uint64_t compute_start_ns, uint64_t compute_end_ns, uint64_t end_ns) {
    if (request_ == nullptr) return;
    log_if(TRITONBACKEND_ModelInstanceReportStatistics(
        instance_, request_, !failed_, start_ns, compute_start_ns, compute_end_ns, end_ns));
    log_if(TRITONBACKEND_RequestRelease(request_, TRITONSERVER_REQUEST_RELEASE_ALL));
    request_ = nullptr;
  }

  int64_t first_row = 0, rows = 0;

 private:
  bool wants(const std::string& output) const {
    uint32_t count = 0;
    require(TRITONBACKEND_RequestOutputCount(request_, &count));
    for (uint32_t i = 0; i < count; ++i) {
      const char* name = nullptr;
      require(TRITONBACKEND_RequestOutputName(request_, i, &name));
      if (output == name) return true;
    }
    return false;
  }

  void fill(TRITONBACKEND_Response* response, const Answers& answers, size_t index) const {
    const TensorSpec& spec = answers.spec(index);
    std::vector<int64_t> shape = answers.row_shape(index);
    const size_t bytes = static_cast<size_t>(rows) * answers.row_bytes(index);
    shape.insert(shape.begin(), rows);
    TRITONBACKEND_Output* output = nullptr;
    require(TRITONBACKEND_ResponseOutput(
        response, &output, spec.name.c_str(), spec.type, shape.data(), static_cast<uint32_t>(shape.size())));
    void* buffer = nullptr;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t memory_id = 0;
    require(TRITONBACKEND_OutputBuffer(output, &buffer, bytes, &memory, &memory_id));
    if (memory == TRITONSERVER_MEMORY_GPU) {
      throw Failure(TRITONSERVER_ERROR_UNSUPPORTED, "output " + spec.name + " is wanted in a GPU's memory");
    }
    if (bytes > 0) std::memcpy(buffer, answers.row(index, first_row), bytes);
  }

  TRITONBACKEND_ModelInstance* instance_;
  TRITONBACKEND_Request* request_;
  bool sent_ = false, failed_ = false;
};

class Instance {
 public:
  Instance(TRITONBACKEND_ModelInstance* instance, Model& model)
      : instance_(instance), streams_(model.shared->streams), batch_(model.config), answers_(model.config.outputs) {}

  void execute(TRITONBACKEND_Request** requests, uint32_t count) {
    const uint64_t start_ns = now_ns();
    std::vector<Job> jobs;
    jobs.reserve(count);
    for (uint32_t i = 0; i < count; ++i) jobs.emplace_back(instance_, requests[i]);
    batch_.start(count == 1);
    for (Job& job : jobs) {
      job.first_row = batch_.rows();
      job.attempt([&] { job.rows = batch_.append(job.request()); });
    }
    const uint64_t compute_start_ns = now_ns();
    uint64_t compute_end_ns = compute_start_ns;
    const bool any = std::any_of(jobs.begin(), jobs.end(), [](const Job& job) { return !job.failed(); });
    if (any) compute_end_ns = run(jobs);
    const uint64_t end_ns = now_ns();
    const bool answered = std::any_of(jobs.begin(), jobs.end(), [](const Job& job) { return !job.failed(); });
    for (Job& job : jobs) job.release(start_ns, compute_start_ns, compute_end_ns, end_ns);
    if (answered) {
      log_if(TRITONBACKEND_ModelInstanceReportBatchStatistics(
          instance_, static_cast<uint64_t>(batch_.rows()), start_ns, compute_start_ns, compute_end_ns, end_ns));
    }
  }

 private:
  // Infers and answers; returns the time of the inference's end.
  uint64_t run(std::vector<Job>& jobs) {
    try {
      streams_.infer(batch_, answers_);
    } catch (const std::exception& error) {
      for (Job& job : jobs) {
        if (!job.failed()) job.fail(TRITONSERVER_ERROR_INTERNAL, error.what());
      }
      return now_ns();
    }
    const uint64_t end_ns = now_ns();
    for (Job& job : jobs) job.attempt([&] { job.answer(answers_); });
    return end_ns;
  }

  TRITONBACKEND_ModelInstance* instance_;
  Streams& streams_;
  Batch batch_;
  Answers answers_;
};

template <typename State, typename Owner>
State* state_of(TRITONSERVER_Error* (*get)(Owner*, void**), Owner* owner) {
  void* state = nullptr;
  require(get(owner, &state));
  return static_cast<State*>(state);
}

}  // namespace
}  // namespace cpp_host

using namespace cpp_host;

extern "C" {

TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend*) {
  return guarded([] {
    uint32_t major = 0, minor = 0;
    require(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != TRITONBACKEND_API_VERSION_MAJOR) {
      throw Failure(
          TRITONSERVER_ERROR_UNSUPPORTED, "this host is made for version 1 of the backend API, the server has " +
                                              std::to_string(major) + "." + std::to_string(minor));
    }
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  return guarded([&] {
    auto state = std::make_unique<Model>(model);
    require(TRITONBACKEND_ModelSetState(model, state.get()));
    state.release();
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
  return guarded([&] {
    delete state_of<Model>(TRITONBACKEND_ModelState, model);
    malloc_trim(0);  // tables are large: their memory is returned to the system at once
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([&] {
    TRITONBACKEND_Model* model = nullptr;
    require(TRITONBACKEND_ModelInstanceModel(instance, &model));
    auto state = std::make_unique<Instance>(instance, *state_of<Model>(TRITONBACKEND_ModelState, model));
    require(TRITONBACKEND_ModelInstanceSetState(instance, state.get()));
    state.release();
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([&] { delete state_of<Instance>(TRITONBACKEND_ModelInstanceState, instance); });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count) {
  return guarded([&] { state_of<Instance>(TRITONBACKEND_ModelInstanceState, instance)->execute(requests, count); });
}

}  // extern "C"
