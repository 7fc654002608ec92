// The engines of this host. A new one is a folder beside this file, a line here, and one in ../../library.py.
#include <algorithm>
#include <iterator>

#include "../failure.h"
#include "engine.h"

namespace cpp_host {
namespace {

using Open = std::unique_ptr<Engine>(const std::string& path, const ModelConfig& config);

}  // namespace

// Null where the library is not installed: its folder is not compiled then.
__attribute__((weak)) Open open_onnxruntime, open_openvino, open_tensorflow;

namespace {

struct Known {
  const char* format;
  const char* library;
  Open* open;
};

}  // namespace

std::unique_ptr<Engine> open_engine(const std::string& path, const ModelConfig& config) {
  const Known known[] = {
      {"onnx", "ONNX Runtime", open_onnxruntime},
      {"openvino", "OpenVINO", open_openvino},
      {"tf-savedmodel", "TensorFlow", open_tensorflow},
  };
  const auto* found = std::find_if(std::begin(known), std::end(known), [&](const Known& engine) {
    return config.format == engine.format;
  });
  if (found == std::end(known)) throw bad_request("this host has no engine for the format " + config.format);
  if (found->open == nullptr) {
    throw Failure(
        TRITONSERVER_ERROR_UNAVAILABLE, std::string(found->library) + ", which runs " + config.format +
                                            " models, was not installed when this server started: run "
                                            "scripts/install.sh, then restart the server");
  }
  return found->open(path, config);
}

}  // namespace cpp_host
