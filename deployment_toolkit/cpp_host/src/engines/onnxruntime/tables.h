// Embedding tables of an ONNX file, in memory that several sessions share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "api.h"

namespace cpp_host::onnxruntime {

// Constant that a Gather reads rows of.
struct Table {
  struct FreeMemory {
    void operator()(char* memory) const;
  };

  std::string name;
  std::unique_ptr<char, FreeMemory> memory;
  OwnedValue value;
};

// Tables of the file that are large and inside it; a session maps those of a second file by itself. Throws Failure if the
// file can't be read.
std::vector<Table> read_tables(const std::string& path);

}  // namespace cpp_host::onnxruntime
