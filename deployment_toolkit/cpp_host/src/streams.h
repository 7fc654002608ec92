// The streams of a model, which all its instances share.
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
  // Every stream is prepared for every bucket, one after the other, and its answers are compared, see preparation.h.
  // Throws Failure if the graph, which must outlive this, can't be compiled or a stream answers wrong.
  Streams(const Graph& graph, const ModelConfig& config);

  // Answers a batch; returns when all its rows are there. Small batches are computed by all threads together, where
  // that is wanted and nobody else does so: a second reading of the weights costs more there than waiting for each
  // other. Larger ones are divided among the streams that are free. From any thread. Throws Failure if the engine fails.
  void infer(Batch& batch, Answers& answers);

 private:
  std::vector<Stream*> take(int useful);
  void give_back(const std::vector<Stream*>& streams);
  void infer_on(const std::vector<Stream*>& streams, Batch& batch, Answers& answers) const;

  const ModelConfig& config_;
  const Buckets buckets_;
  std::list<Stream> streams_;
  std::unique_ptr<Stream> together_;
  std::mutex turn_;  // of together_: two that use all threads at once would be slower than each on a stream

  std::mutex guard_;  // of what follows
  std::vector<Stream*> free_;
  std::condition_variable freed_;
};

}  // namespace cpp_host
