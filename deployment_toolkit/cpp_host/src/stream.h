// Streams: engines that compute chunks of batches.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "batch.h"
#include "buckets.h"
#include "engines/engine.h"
#include "model_config.h"

namespace cpp_host {

// Outputs of a batch, row after row, in buffers that are reused.
class Answers {
 public:
  explicit Answers(const std::vector<TensorSpec>& specs);

  // Makes room for the answers of a batch of so many rows.
  void start(int64_t rows);
  // Copies the first count rows of a chunk's output to the batch's rows from first on. Throws Failure if the output has
  // another number of rows than the chunk, or rows of another shape than earlier chunks.
  void take(size_t output, const Answer& answer, const Chunk& chunk);

  size_t outputs() const { return specs_.size(); }
  const TensorSpec& spec(size_t output) const { return specs_[output]; }
  const std::vector<int64_t>& row_shape(size_t output) const { return columns_[output].row_shape; }
  size_t row_bytes(size_t output) const { return columns_[output].row_bytes; }
  // Address of a row; later rows follow it.
  const char* row(size_t output, int64_t index) const;

 private:
  struct Column {
    std::vector<int64_t> row_shape;
    size_t row_bytes = 0;
    std::vector<char> data;
    bool known = false;  // the shape belongs to this batch
  };

  void set_row_shape(size_t output, std::vector<int64_t> shape);

  const std::vector<TensorSpec>& specs_;
  std::vector<Column> columns_;
  int64_t rows_ = 0;
};

class Stream;

// Streams that have ended their chunk, in the order of their ends.
class FinishedStreams {
 public:
  void add(Stream* stream);
  // Waits for a stream.
  Stream* next();

 private:
  std::mutex guard_;
  std::condition_variable added_;
  std::deque<Stream*> streams_;
};

// A request of the engine, which computes one chunk at a time.
class Stream {
 public:
  // The engine must outlive it.
  Stream(Engine& engine, int threads);
  Stream(const Stream&) = delete;

  // Begins a chunk, or throws Failure. Its end is recorded in finished; only then finish may be called.
  void start(const Batch& batch, const Chunk& chunk, FinishedStreams& finished);
  // Copies the answers of the chunk. Throws Failure if the inference failed.
  void finish(Answers& answers);
  // Computes a chunk in the caller's thread, if possible, which saves the switch to another thread.
  bool infer_here(const Batch& batch, const Chunk& chunk, Answers& answers);

 private:
  // Last input of the request, which still reads it.
  struct Input {
    std::vector<int64_t> shape;
    const char* data = nullptr;
  };

  void set_inputs(const Batch& batch, const Chunk& chunk);
  void take(Answers& answers);
  // Runs a step. A request that failed may fail again in the same size, so the next chunk gets a new one.
  template <typename Step>
  void attempt(Step step);

  Engine& engine_;
  const int threads_;
  std::unique_ptr<Request> request_;
  std::vector<Input> inputs_;
  Chunk chunk_{};
  FinishedStreams* finished_ = nullptr;
};

// Answers all chunks of a batch: a stream that ends a chunk takes the next. Returns, or throws Failure, when all
// streams are idle.
void infer(const std::vector<Stream*>& streams, const Batch& batch, const std::vector<Chunk>& chunks, Answers& answers);

}  // namespace cpp_host
