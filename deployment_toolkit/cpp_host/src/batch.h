// Batch of the inputs of several requests, in buffers that are reused.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "buckets.h"
#include "model_config.h"
#include "numbers.h"
#include "triton_api.h"

namespace cpp_host {

// Location of one request's input in memory.
struct InputView {
  TRITONBACKEND_Input* input;
  const int64_t* shape;
  size_t rank;
  size_t bytes;
  uint32_t buffers;

  int64_t rows() const { return rank == 0 ? 0 : shape[0]; }
};

class Batch {
 public:
  explicit Batch(const std::vector<TensorSpec>& specs);

  // Drops the rows of the previous batch. With alone, the next batch has a single request, whose large inputs are not
  // copied.
  void start(bool alone);

  // Appends a request's inputs and checks their ids; returns the number of its rows. If the request is invalid, throws
  // Failure and leaves the batch unchanged.
  int64_t append(TRITONBACKEND_Request* request);

  // Replaces the rows by so many random rows; free dimensions have size 1.
  void fill(int64_t rows, Random random);

  // Call it after the last row is appended. Where a chunk is larger than the rest of the rows, pads with copies of the
  // last row, whose ids are valid.
  void complete(const std::vector<Chunk>& chunks);

  int64_t rows() const { return rows_; }

  // Rows of an input: their specification, the shape of one row, their address.
  const TensorSpec& spec(size_t input) const { return columns_[input].spec; }
  const std::vector<int64_t>& row_shape(size_t input) const { return columns_[input].row_shape; }
  const char* row(size_t input, int64_t index) const;
  size_t inputs() const { return columns_.size(); }

 private:
  struct FreeMemory {
    void operator()(char* memory) const { std::free(memory); }
  };

  struct Column {
    const TensorSpec& spec;
    std::vector<int64_t> row_shape;  // of this batch, without free dimensions
    size_t row_bytes = 0;
    size_t capacity = 0;  // bytes
    std::unique_ptr<char, FreeMemory> memory;
    const char* given = nullptr;  // the request's own buffer, if it is not copied
    int64_t given_rows = 0;       // number of rows in given; later rows are at the start of memory
  };

  InputView view(TRITONBACKEND_Request* request, const Column& column) const;
  void check_shape(const Column& column, const InputView& view) const;
  void take(Column& column, const InputView& view);
  void grow(Column& column, size_t bytes, size_t kept_bytes);

  std::vector<Column> columns_;
  std::vector<InputView> views_;
  int64_t rows_ = 0;
  bool alone_ = false;
};

}  // namespace cpp_host
