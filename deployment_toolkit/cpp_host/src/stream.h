// An engine at work on chunks of batches.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
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

class Stream;

// The streams that have ended their chunk, in the order in which they did.
class FinishedStreams {
 public:
  void add(Stream* stream);
  // Waits for one.
  Stream* next();

 private:
  std::mutex guard_;
  std::condition_variable added_;
  std::deque<Stream*> streams_;
};

// An engine of its own with its only inference request. What engines build for a size of batch, and what they arrange
// of the weights, no two streams share: streams that work at the same time can't meet in it.
class Stream {
 public:
  // The graph must outlive it.
  Stream(const Graph& graph, const ModelConfig& config, int threads);
  Stream(const Stream&) = delete;

  // Begins a chunk, unless it throws Failure. Its end is noted in finished; only then finish may be called.
  void start(const Batch& batch, const Chunk& chunk, FinishedStreams& finished);
  // Takes the answers. Throws Failure if there are none.
  void finish(Answers& answers);
  // Both in one, if it can be done in the caller's thread, which saves the way to another one.
  bool infer_here(const Batch& batch, const Chunk& chunk, Answers& answers);

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

  void set_inputs(const Batch& batch, const Chunk& chunk);
  void take(Answers& answers);
  // Throws away an engine that fails in a step.
  template <typename Step>
  void attempt(Step step);

  const Graph& graph_;
  const ModelConfig& config_;
  int threads_;
  std::unique_ptr<Work> work_;
  Chunk chunk_{};
  FinishedStreams* finished_ = nullptr;
};

// Answers all chunks of a batch: a stream that has ended one takes the next. Returns, or throws Failure, when no stream is
// busy any more.
void infer(const std::vector<Stream*>& streams, const Batch& batch, const std::vector<Chunk>& chunks, Answers& answers);

}  // namespace cpp_host
