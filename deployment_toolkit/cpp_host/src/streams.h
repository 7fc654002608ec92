// The streams of a model, which all its instances share.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "stream.h"

namespace cpp_host {

class Streams {
 public:
  // Every stream is prepared for every bucket, one after the other, and its answers are compared, see preparation.h.
  // Throws Failure if the graph can't be compiled or a stream answers wrong.
  Streams(const Graph& graph, const ModelConfig& config);
  ~Streams();

  // Answers a batch; returns when all its rows are there. Small batches are computed by all threads together, where
  // that is wanted and nobody else does so: a second reading of the weights costs more there than waiting for each
  // other. Larger ones are divided among the streams that are free. From any thread. Throws Failure if the engine fails.
  void infer(Batch& batch, Answers& answers);

 private:
  using Work = std::function<void(Stream&)>;

  // A stream, and the thread that works on it for a batch that another thread has taken.
  struct Worker {
    Worker(const Graph& graph, const ModelConfig& config, int threads) : stream(graph, config, threads) {}
    Stream stream;
    std::thread thread;
    const Work* work = nullptr;
    std::condition_variable told;
  };

  std::vector<Worker*> take(int useful);
  void give_back(const std::vector<Worker*>& workers);
  void run(const std::vector<Worker*>& workers, const Work& work);
  void serve(Worker& worker);

  const ModelConfig& config_;
  const Buckets buckets_;
  std::list<Worker> workers_;
  std::unique_ptr<Stream> together_;
  std::mutex turn_;  // of together_: two that use all threads at once would be slower than each on a stream

  std::mutex guard_;  // of what follows, and of each worker's work
  std::vector<Worker*> free_;
  std::condition_variable freed_, done_;
  bool ending_ = false;
};

}  // namespace cpp_host
