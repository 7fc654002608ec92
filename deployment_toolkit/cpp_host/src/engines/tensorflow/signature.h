// Signature of a SavedModel: names of tensors in the graph by the names that callers use.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace cpp_host::tensorflow {

struct GraphTensor {
  std::string operation;
  int index;  // among the outputs of the operation
  int type;   // TF_DataType
};

struct Signature {
  std::map<std::string, GraphTensor> inputs, outputs;

  // Reads the signature serving_default of a serialized MetaGraphDef. Throws Failure if there is none.
  static Signature parse(std::string_view meta_graph);
};

}  // namespace cpp_host::tensorflow
