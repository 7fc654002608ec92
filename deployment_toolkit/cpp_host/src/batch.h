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

// Requests bring the inputs of the configuration; the batch holds those of the engine. They are the same, or the batch
// packs the requests' inputs into the columns of the engine's.
class Batch {
 public:
  // Throws Failure if the engine's inputs have no place for one of the requests'.
  explicit Batch(const ModelConfig& config);

  // Drops the rows of the previous batch. With alone, the next batch has a single request, whose large inputs are not
  // copied if they hold no ids.
  void start(bool alone);

  // Appends a request's inputs and checks their values; returns the number of its rows. If the request is invalid, throws
  // Failure and leaves the batch unchanged.
  int64_t append(TRITONBACKEND_Request* request);

  // Replaces the rows by so many random rows; free dimensions have size 1.
  void fill(int64_t rows, Random random);

  // Call it after the last row is appended. Where a chunk is larger than the rest of the rows, pads with copies of the
  // last row, whose ids are valid.
  void complete(const std::vector<Chunk>& chunks);

  int64_t rows() const { return rows_; }

  // Rows of an engine's input: the shape of one row, their address.
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

  // Place of a request's input: a column of this batch, or some of the elements of its rows.
  struct Place {
    const TensorSpec& spec;
    size_t column;
    bool is_whole;
    size_t first_element;
  };

  Place place_of(const TensorSpec& spec) const;
  InputView view(TRITONBACKEND_Request* request, const Place& place) const;
  void check_shape(const Place& place, const InputView& view) const;
  void take(Column& column, const InputView& view);
  void pack(const Place& place, const InputView& view);
  void grow(Column& column, size_t bytes, size_t kept_bytes);

  std::vector<Column> columns_;
  std::vector<Place> places_;  // by the requests' inputs
  std::vector<InputView> views_;
  std::vector<char> joined_;  // copy of one input, in one piece
  int64_t rows_ = 0;
  bool alone_ = false;
};

}  // namespace cpp_host
