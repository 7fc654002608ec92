// What a stream does before the first request: it is asked in each size once, and its answers are compared.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "stream.h"

namespace cpp_host {

// The rows are made of the value ranges. What streams are compared with are the answers of an engine that has all
// threads and computes all rows at once. One model at a time is prepared in this process: nothing is built by two
// threads at the same moment.
class Preparation {
 public:
  Preparation(const Graph& graph, const ModelConfig& config, const Buckets& buckets);

  // Asks the first row, the first two and so on, by the sizes of the buckets up to the one that has room for so many
  // rows; so the engine builds all that it needs for them. Throws Failure, with the sizes whose answers differ, and by
  // how much.
  void prepare(Stream& stream, int64_t rows, const std::string& name);

  // The engine that everything was compared with, prepared for batches of up to so many rows. Nothing can be compared
  // any more.
  std::unique_ptr<Stream> release_undivided(int64_t rows);

  // Moves what the engines have built to huge pages, and says in the server's log what was done.
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
