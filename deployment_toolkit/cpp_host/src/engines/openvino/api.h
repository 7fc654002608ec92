// Functions of OpenVINO's C API, found in its library when the first model needs them.
#pragma once

#include <openvino/c/openvino.h>

#include <memory>

#include "../shared_library.h"

namespace cpp_host::openvino {

#define OPENVINO_FUNCTIONS(USE)                                                                            \
  USE(ov_get_last_err_msg) USE(ov_get_error_info) USE(ov_core_create) USE(ov_core_read_model)              \
  USE(ov_core_compile_model_props) USE(ov_model_free) USE(ov_compiled_model_free)                          \
  USE(ov_compiled_model_input_by_name) USE(ov_compiled_model_output_by_name)                               \
  USE(ov_compiled_model_create_infer_request) USE(ov_infer_request_free) USE(ov_infer_request_infer)       \
  USE(ov_infer_request_set_callback) USE(ov_infer_request_start_async) USE(ov_infer_request_wait)          \
  USE(ov_infer_request_set_tensor_by_const_port) USE(ov_infer_request_get_tensor_by_const_port)            \
  USE(ov_output_const_port_free) USE(ov_port_get_element_type) USE(ov_tensor_create_from_host_ptr)         \
  USE(ov_tensor_free) USE(ov_tensor_get_shape) USE(ov_tensor_data) USE(ov_shape_free)

struct Api {
  // Throws Failure if the library can't be opened or lacks a function.
  Api();

#define DECLARE(name) decltype(::name)* name;
  OPENVINO_FUNCTIONS(DECLARE)
#undef DECLARE
};

// The library, opened at the first call.
const Api& api();

using Tensor = std::unique_ptr<ov_tensor_t, Freed<api, &Api::ov_tensor_free>>;
using Port = std::unique_ptr<ov_output_const_port_t, Freed<api, &Api::ov_output_const_port_free>>;
using Graph = std::unique_ptr<ov_model_t, Freed<api, &Api::ov_model_free>>;
using CompiledModel = std::unique_ptr<ov_compiled_model_t, Freed<api, &Api::ov_compiled_model_free>>;
using InferRequest = std::unique_ptr<ov_infer_request_t, Freed<api, &Api::ov_infer_request_free>>;

}  // namespace cpp_host::openvino
