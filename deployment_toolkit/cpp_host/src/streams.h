// Streams of a model, shared by all its instances.
#pragma once

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "stream.h"

namespace cpp_host {

class Streams {
 public:
  // Prepares every stream for every bucket, one after the other, and compares its answers (preparation.h). Throws
  // Failure if the engine, which must outlive this object, can't be compiled or a stream's answers are wrong.
  Streams(Engine& engine, const ModelConfig& config);

  // Answers a batch; returns when all its rows are answered. Call it from any thread. All threads together compute a
  // small batch, if this is configured and no other batch does so at the moment: a second reading of the weights costs
  // more than the synchronisation. Larger batches are divided among the free streams. Throws Failure if the engine
  // fails.
  void infer(Batch& batch, Answers& answers);

 private:
  std::vector<Stream*> take(int useful);
  void give_back(const std::vector<Stream*>& streams);
  void infer_on(const std::vector<Stream*>& streams, Batch& batch, Answers& answers) const;

  const ModelConfig& config_;
  const Buckets buckets_;
  std::list<Stream> streams_;
  std::unique_ptr<Stream> together_;
  std::mutex turn_;  // for together_: two batches that each use all threads would be slower than on separate streams

  std::mutex guard_;  // for the members below
  std::vector<Stream*> free_;
  std::condition_variable freed_;
};

}  // namespace cpp_host
