#include "streams.h"

#include <algorithm>

#include "failure.h"
#include "preparation.h"

namespace cpp_host {

Streams::Streams(Engine& engine, const ModelConfig& config) : config_(config), buckets_(config) {
  Preparation preparation(engine, config, buckets_);
  const int threads = std::max(1, config.threads / config.streams);
  for (int i = 0; i < config.streams; ++i) {
    Stream& stream = streams_.emplace_back(engine, threads);
    preparation.prepare(stream, buckets_.largest(), "stream " + std::to_string(i + 1));
    free_.push_back(&stream);
  }
  if (config.streams > 1 && config.undivided_rows > 0) {
    together_ = preparation.release_undivided(config.undivided_rows);
  }
  preparation.finish();
}

void Streams::infer(Batch& batch, Answers& answers) {
  answers.start(batch.rows());
  if (batch.rows() == 0) return;
  if (together_ && batch.rows() <= config_.undivided_rows) {
    const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (turn.owns_lock()) return infer_on({together_.get()}, batch, answers);
  }
  const std::vector<Stream*> streams = take(Buckets::useful_streams(batch.rows(), config_.streams));
  try {
    infer_on(streams, batch, answers);
  } catch (...) {
    give_back(streams);
    throw;
  }
  give_back(streams);
}

void Streams::infer_on(const std::vector<Stream*>& streams, Batch& batch, Answers& answers) const {
  const std::vector<Chunk> chunks = buckets_.divide(batch.rows(), static_cast<int>(streams.size()));
  batch.complete(chunks);
  cpp_host::infer(streams, batch, chunks, answers);
}

// Takes up to ``useful`` free streams; waits until at least one is free.
std::vector<Stream*> Streams::take(int useful) {
  std::unique_lock<std::mutex> lock(guard_);
  freed_.wait(lock, [&] { return !free_.empty(); });
  const auto count = std::min(static_cast<std::ptrdiff_t>(free_.size()), static_cast<std::ptrdiff_t>(useful));
  const std::vector<Stream*> taken(free_.end() - count, free_.end());
  free_.resize(free_.size() - taken.size());
  return taken;
}

void Streams::give_back(const std::vector<Stream*>& streams) {
  {
    const std::lock_guard<std::mutex> lock(guard_);
    free_.insert(free_.end(), streams.begin(), streams.end());
  }
  freed_.notify_all();
}

}  // namespace cpp_host
