// Preparation of a stream before the first request: it computes each size once, and its answers are compared.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "stream.h"

namespace cpp_host {

// The rows are random numbers in the value ranges. The reference is the answer of an engine that has all threads and
// computes all rows at once. One model at a time is prepared in this process, so that two threads never build kernels
// at the same time.
class Preparation {
 public:
  Preparation(Engine& engine, const ModelConfig& config, const Buckets& buckets);

  // Computes the first row, the first two and so on, for the sizes of the buckets up to the first that holds so many
  // rows; so the engine builds its kernels for all of them. Throws Failure, with the sizes whose answers differ and the
  // difference.
  void prepare(Stream& stream, int64_t rows, const std::string& name);

  // Releases the reference engine, prepared for batches of up to so many rows. After that nothing can be compared.
  std::unique_ptr<Stream> release_undivided(int64_t rows);

  // Moves the memory of the engines to huge pages, and logs the preparation in the server's log.
  void finish() const;

 private:
  using Clock = std::chrono::steady_clock;

  double difference(size_t output, const Answers& answers, int64_t rows) const;

  const ModelConfig& config_;
  const Buckets& buckets_;
  const std::lock_guard<std::mutex> turn_;
  const Clock::time_point start_ = Clock::now();
  Batch batch_;
  Answers expected_;
  std::vector<double> tolerances_;  // by output
  std::unique_ptr<Stream> undivided_;
  double largest_difference_ = 0;
};

}  // namespace cpp_host
