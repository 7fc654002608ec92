// An engine at work on chunks of batches.
#pragma once

#include <cstdint>
#include <memory>
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
  // the output has not as many rows as were asked, or rows of another shape than the chunks before.
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
  int64_t rows_ = 0;
};

// An engine of its own with its only inference request. What engines build for a size of batch, and what they arrange
// of the weights, no two streams share: streams that work at the same time can't meet in it.
class Stream {
 public:
  // The graph must outlive it.
  Stream(const Graph& graph, const ModelConfig& config, int threads);
  Stream(const Stream&) = delete;

  // Begins a chunk, which is under way until finish has returned, whether it failed or not. Both throw Failure.
  void start(const Batch& batch, const Chunk& chunk);
  bool is_busy() const { return busy_; }
  void finish(Answers& answers);

 private:
  // What the engine was handed last, which it still reads.
  struct Input {
    std::vector<int64_t> shape;
    const char* data = nullptr;
    Tensor tensor;
  };

  // An engine that failed once may fail again in the same size: the next chunk gets a new one.
  struct Work {
    Work(const Graph& graph, const ModelConfig& config, int threads) : engine(graph, config, threads), request(engine) {}
    Engine engine;
    InferRequest request;
    std::vector<Input> inputs;
  };

  const Graph& graph_;
  const ModelConfig& config_;
  int threads_;
  std::unique_ptr<Work> work_;
  Chunk chunk_{};
  bool busy_ = false;
};

// Answers all chunks of a batch: each stream takes the next one in its turn. Returns, or throws Failure, when no stream is
// busy any more.
void infer(const std::vector<Stream*>& streams, const Batch& batch, const std::vector<Chunk>& chunks, Answers& answers);

}  // namespace cpp_host
