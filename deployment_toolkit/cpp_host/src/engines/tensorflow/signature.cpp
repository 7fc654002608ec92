#include "signature.h"

#include <cstdlib>

#include "../../failure.h"
#include "../wire.h"

namespace cpp_host::tensorflow {
namespace {

constexpr std::string_view kName = "serving_default";

struct Entry {
  explicit Entry(std::string_view entry) {
    for (WireReader fields(entry); fields.next();) {
      if (fields.number() == 1) key = fields.bytes();
      if (fields.number() == 2) value = fields.bytes();
    }
  }

  std::string_view key, value;  // of a map
};

GraphTensor graph_tensor(std::string_view tensor_info) {
  std::string name;  // operation:index
  int type = 0;
  for (WireReader fields(tensor_info); fields.next();) {
    if (fields.number() == 1) name = fields.bytes();
    if (fields.number() == 2) type = static_cast<int>(fields.integer());
  }
  const size_t colon = name.rfind(':');
  if (colon == std::string::npos) return {name, 0, type};
  return {name.substr(0, colon), std::atoi(name.c_str() + colon + 1), type};
}

}  // namespace

// Of MetaGraphDef field 5 is the map of signatures; of SignatureDef 1 are inputs, 2 outputs; of TensorInfo 1 is the name,
// 2 the type. Source: meta_graph.proto.
Signature Signature::parse(std::string_view meta_graph) {
  std::string others;
  for (WireReader fields(meta_graph); fields.next();) {
    if (fields.number() != 5) continue;
    const Entry found(fields.bytes());
    if (found.key != kName) {
      others += (others.empty() ? "" : ", ") + std::string(found.key);
      continue;
    }
    Signature signature;
    for (WireReader tensors(found.value); tensors.next();) {
      if (tensors.number() != 1 && tensors.number() != 2) continue;
      const Entry tensor(tensors.bytes());
      auto& named = tensors.number() == 1 ? signature.inputs : signature.outputs;
      named.emplace(tensor.key, graph_tensor(tensor.value));
    }
    return signature;
  }
  throw bad_request("the SavedModel has no signature " + std::string(kName) + ", only " + others);
}

}  // namespace cpp_host::tensorflow
