// One inference of a batch: as a whole by all threads, or in parts on as many streams.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "batch.h"
#include "engine.h"
#include "model_config.h"

namespace cpp_host {

// Some rows of a batch on a stream of their own.
class Part {
 public:
  explicit Part(const Engine& engine) : request_(engine) {}

  void set_rows(const Batch& batch, int64_t first, int64_t count);
  InferRequest& request() { return request_; }
  // Throws Failure if an output has not a row for each row.
  void read(const std::vector<TensorSpec>& outputs);

  int64_t first() const { return first_; }
  int64_t count() const { return count_; }
  const Answer& answer(size_t output) const { return answers_[output]; }

 private:
  // What the engine was handed last, which it still reads.
  struct Input {
    std::vector<int64_t> shape;
    const char* data = nullptr;
    Tensor tensor;
  };

  InferRequest request_;
  std::vector<Input> inputs_;
  std::vector<Answer> answers_;
  int64_t first_ = 0, count_ = 0;
};

class Inference {
 public:
  Inference(const Engines& engines, const ModelConfig& config);

  // Returns when all outputs are there, until the next run. Throws Failure if the engine fails.
  void run(const Batch& batch);

  std::vector<int64_t> row_shape(size_t output) const;
  // Rows of an output, as they follow each other.
  void copy(size_t output, int64_t first, int64_t count, char* target) const;

 private:
  void infer(Part& part);
  void divide(const Batch& batch);

  const Engines& engines_;
  const ModelConfig& config_;
  std::vector<Part> parts_;
  std::optional<Part> whole_;
  std::vector<Part*> used_;  // for the last batch, in the order of its rows
};

}  // namespace cpp_host
