// The inputs of several requests as one batch, in buffers that are used again and again.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "buckets.h"
#include "model_config.h"
#include "numbers.h"
#include "triton_api.h"

namespace cpp_host {

// Where an input of one request lies.
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

  // Forgets the rows of the batch before; alone tells that the next one has one request only, whose large inputs are
  // then not copied.
  void start(bool alone);

  // Copies a request's inputs behind those before it and checks their ids; returns its rows. Throws Failure, and the
  // batch is as it was, if the request is not good.
  int64_t append(TRITONBACKEND_Request* request);

  // Makes so many rows, one element for each size that is free, in the place of those before.
  void fill(int64_t rows, Random random);

  // To be called when all rows are there: puts copies of the last one, whose ids are good, wherever one of the chunks
  // that the rows are divided into is larger than what is left of them.
  void complete(const std::vector<Chunk>& chunks);

  int64_t rows() const { return rows_; }

  // Where the batch's rows of an input lie, and the shape of one of them.
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
    std::vector<int64_t> row_shape;  // of this batch: no size is free any more
    size_t row_bytes = 0;
    size_t capacity = 0;  // bytes
    std::unique_ptr<char, FreeMemory> memory;
    const char* given = nullptr;  // the request's own buffer, where it is not copied
    int64_t given_rows = 0;       // of the batch's rows; those behind lie at the start of the memory
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
