// An engine at work on chunks of batches.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "batch.h"
#include "buckets.h"
#include "engine.h"
#include "model_config.h"

namespace cpp_host {

// The outputs of a batch, row behind row, in buffers that are used again and again.
class Answers {
 public:
  explicit Answers(const std::vector<TensorSpec>& specs);

  // Makes room for the answers of a batch of so many rows.
  void start(int64_t rows);
  // Takes the first count rows of an output that is one chunk's, for the batch's rows from first on. Throws Failure if
  // the output has not as many rows as were asked, or rows of another shape than the chunks before. From any thread.
  void take(size_t output, const Answer& answer, const Chunk& chunk);

  size_t outputs() const { return specs_.size(); }
  const TensorSpec& spec(size_t output) const { return specs_[output]; }
  const std::vector<int64_t>& row_shape(size_t output) const { return columns_[output].row_shape; }
  size_t row_bytes(size_t output) const { return columns_[output].row_bytes; }
  // From a row on.
  const char* row(size_t output, int64_t index) const;

 private:
  struct Column {
    std::vector<int64_t> row_shape;
    size_t row_bytes = 0;
    std::vector<char> data;
    bool known = false;  // the shape is this batch's
  };

  void set_row_shape(size_t output, std::vector<int64_t> shape);

  const std::vector<TensorSpec>& specs_;
  std::vector<Column> columns_;
  std::mutex guard_;
  int64_t rows_ = 0;
};

// An engine of its own with its only inference request. What engines build for a size of batch, and what they arrange
// of the weights, no two streams share: streams that work at the same time can't meet in it.
class Stream {
 public:
  Stream(const Graph& graph, const ModelConfig& config, int threads) : engine_(graph, config, threads), request_(engine_) {}
  Stream(const Stream&) = delete;

  // In this thread, one call at a time. Throws Failure if the engine fails.
  void infer(const Batch& batch, const Chunk& chunk, Answers& answers);

 private:
  // What the engine was handed last, which it still reads.
  struct Input {
    std::vector<int64_t> shape;
    const char* data = nullptr;
    Tensor tensor;
  };

  Engine engine_;
  InferRequest request_;
  std::vector<Input> inputs_;
};

}  // namespace cpp_host
