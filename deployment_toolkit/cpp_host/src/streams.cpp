#include "streams.h"

#include <algorithm>
#include <atomic>
#include <exception>

#include "failure.h"
#include "preparation.h"

namespace cpp_host {
namespace {

// The first failure of several threads.
class FirstFailure {
 public:
  void keep() {
    const std::lock_guard<std::mutex> lock(guard_);
    if (!failed_) failed_ = std::current_exception();
  }
  void rethrow() const {
    if (failed_) std::rethrow_exception(failed_);
  }

 private:
  std::mutex guard_;
  std::exception_ptr failed_;
};

}  // namespace

Streams::Streams(const Graph& graph, const ModelConfig& config) : config_(config), buckets_(config) {
  Preparation preparation(graph, config, buckets_);
  const int threads = std::max(1, config.threads / config.streams);
  for (int i = 0; i < config.streams; ++i) {
    Worker& worker = workers_.emplace_back(graph, config, threads);
    preparation.prepare(worker.stream, buckets_.largest(), "stream " + std::to_string(i + 1));
    free_.push_back(&worker);
  }
  if (config.streams > 1 && config.undivided_rows > 0) {
    together_ = preparation.release_undivided(config.undivided_rows);
  }
  preparation.log();
  // The thread that brings a batch works on one of its streams itself: a single stream needs no other.
  if (config.streams == 1) return;
  for (Worker& worker : workers_) worker.thread = std::thread([this, &worker] { serve(worker); });
}

Streams::~Streams() {
  {
    const std::lock_guard<std::mutex> lock(guard_);
    ending_ = true;
  }
  for (Worker& worker : workers_) {
    worker.told.notify_one();
    if (worker.thread.joinable()) worker.thread.join();
  }
}

void Streams::infer(Batch& batch, Answers& answers) {
  const int64_t rows = batch.rows();
  answers.start(rows);
  if (together_ && rows <= config_.undivided_rows) {
    const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (turn.owns_lock()) {
      const std::vector<Chunk> chunks = buckets_.divide(rows, 1);
      batch.complete(chunks);
      for (const Chunk& chunk : chunks) together_->infer(batch, chunk, answers);
      return;
    }
  }
  const std::vector<Worker*> workers = take(Buckets::useful_streams(rows, config_.streams));
  try {
    const std::vector<Chunk> chunks = buckets_.divide(rows, static_cast<int>(workers.size()));
    batch.complete(chunks);
    std::atomic<size_t> next{0};
    FirstFailure failure;
    run(workers, [&](Stream& stream) {
      try {
        for (size_t i = next++; i < chunks.size(); i = next++) stream.infer(batch, chunks[i], answers);
      } catch (...) {
        next = chunks.size();
        failure.keep();
      }
    });
    failure.rethrow();
  } catch (...) {
    give_back(workers);
    throw;
  }
  give_back(workers);
}

// At least one, waiting for it if need be.
std::vector<Streams::Worker*> Streams::take(int useful) {
  std::unique_lock<std::mutex> lock(guard_);
  freed_.wait(lock, [&] { return !free_.empty(); });
  const auto count = std::min(static_cast<std::ptrdiff_t>(free_.size()), static_cast<std::ptrdiff_t>(useful));
  const std::vector<Worker*> taken(free_.end() - count, free_.end());
  free_.resize(free_.size() - taken.size());
  return taken;
}

void Streams::give_back(const std::vector<Worker*>& workers) {
  {
    const std::lock_guard<std::mutex> lock(guard_);
    free_.insert(free_.end(), workers.begin(), workers.end());
  }
  freed_.notify_all();
}

// On all of them at once, on the first in this thread.
void Streams::run(const std::vector<Worker*>& workers, const Work& work) {
  {
    const std::lock_guard<std::mutex> lock(guard_);
    for (size_t i = 1; i < workers.size(); ++i) workers[i]->work = &work;
  }
  for (size_t i = 1; i < workers.size(); ++i) workers[i]->told.notify_one();
  work(workers[0]->stream);
  if (workers.size() == 1) return;
  std::unique_lock<std::mutex> lock(guard_);
  const auto idle = [](const Worker* worker) { return worker->work == nullptr; };
  done_.wait(lock, [&] { return std::all_of(workers.begin(), workers.end(), idle); });
}

void Streams::serve(Worker& worker) {
  std::unique_lock<std::mutex> lock(guard_);
  while (true) {
    worker.told.wait(lock, [&] { return worker.work != nullptr || ending_; });
    if (worker.work == nullptr) return;
    lock.unlock();
    (*worker.work)(worker.stream);
    lock.lock();
    worker.work = nullptr;
    done_.notify_all();
  }
}

}  // namespace cpp_host
