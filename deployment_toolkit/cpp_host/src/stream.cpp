#include "stream.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "failure.h"

namespace cpp_host {

Answers::Answers(const std::vector<TensorSpec>& specs) : specs_(specs), columns_(specs.size()) {
  for (size_t i = 0; i < specs.size(); ++i) {
    std::vector<int64_t> shape = specs[i].row_shape;
    std::replace(shape.begin(), shape.end(), int64_t{-1}, int64_t{1});
    set_row_shape(i, std::move(shape));
  }
}

void Answers::set_row_shape(size_t output, std::vector<int64_t> shape) {
  Column& column = columns_[output];
  column.row_bytes = specs_[output].element_bytes;
  for (const int64_t size : shape) column.row_bytes *= static_cast<size_t>(size);
  column.row_shape = std::move(shape);
}

void Answers::start(int64_t rows) {
  rows_ = rows;
  for (Column& column : columns_) column.known = false;
}

void Answers::take(size_t output, const Answer& answer, const Chunk& chunk) {
  if (answer.shape.empty() || answer.shape[0] != chunk.bucket) {
    throw Failure(
        TRITONSERVER_ERROR_INTERNAL, "output " + specs_[output].name + " has not one row for each row of the batch");
  }
  Column& column = columns_[output];
  const bool same =
      std::equal(answer.shape.begin() + 1, answer.shape.end(), column.row_shape.begin(), column.row_shape.end());
  if (column.known && !same) {
    throw Failure(TRITONSERVER_ERROR_INTERNAL, "output " + specs_[output].name + " has rows of different shapes");
  }
  if (!column.known) {
    if (!same) set_row_shape(output, {answer.shape.begin() + 1, answer.shape.end()});
    const size_t needed = static_cast<size_t>(rows_) * column.row_bytes;
    if (column.data.size() < needed) column.data.resize(needed);
    column.known = true;
  }
  const size_t bytes = static_cast<size_t>(chunk.count) * column.row_bytes;
  if (bytes > 0) std::memcpy(column.data.data() + static_cast<size_t>(chunk.first) * column.row_bytes, answer.data, bytes);
}

const char* Answers::row(size_t output, int64_t index) const {
  return columns_[output].data.data() + static_cast<size_t>(index) * columns_[output].row_bytes;
}

Stream::Stream(Engine& engine, int threads)
    : engine_(engine), threads_(threads), request_(engine.make_request(threads)) {}

void FinishedStreams::add(Stream* stream) {
  const std::lock_guard<std::mutex> lock(guard_);
  streams_.push_back(stream);
  added_.notify_one();  // under the lock, because the waiting thread may destroy this object as soon as the lock is free
}

Stream* FinishedStreams::next() {
  std::unique_lock<std::mutex> lock(guard_);
  added_.wait(lock, [&] { return !streams_.empty(); });
  Stream* const stream = streams_.front();
  streams_.pop_front();
  return stream;
}

void Stream::set_inputs(const Batch& batch, const Chunk& chunk) {
  if (!request_) {
    request_ = engine_.make_request(threads_);
    inputs_.clear();
  }
  inputs_.resize(batch.inputs());
  for (size_t i = 0; i < batch.inputs(); ++i) {
    Input& input = inputs_[i];
    const char* data = batch.row(i, chunk.first);
    std::vector<int64_t> shape{chunk.bucket};
    shape.insert(shape.end(), batch.row_shape(i).begin(), batch.row_shape(i).end());
    if (data == input.data && shape == input.shape) continue;
    request_->set_input(i, shape, data);
    input.data = data;
    input.shape = std::move(shape);
  }
  chunk_ = chunk;
}

template <typename Step>
void Stream::attempt(Step step) {
  try {
    step();
  } catch (const Failure&) {
    request_.reset();
    throw;
  }
}

void Stream::start(const Batch& batch, const Chunk& chunk, FinishedStreams& finished) {
  attempt([&] { set_inputs(batch, chunk); });
  finished_ = &finished;
  request_->start(
      [](void* argument) {
        auto* const stream = static_cast<Stream*>(argument);
        stream->finished_->add(stream);
      },
      this);
}

void Stream::take(Answers& answers) {
  for (size_t i = 0; i < answers.outputs(); ++i) answers.take(i, request_->output(i), chunk_);
}

void Stream::finish(Answers& answers) {
  attempt([&] { request_->wait(); });
  take(answers);
}

bool Stream::infer_here(const Batch& batch, const Chunk& chunk, Answers& answers) {
  attempt([&] { set_inputs(batch, chunk); });
  if (!request_->runs_here()) return false;
  attempt([&] { request_->infer(); });
  take(answers);
  return true;
}

void infer(const std::vector<Stream*>& streams, const Batch& batch, const std::vector<Chunk>& chunks, Answers& answers) {
  if (chunks.size() == 1 && streams[0]->infer_here(batch, chunks[0], answers)) return;
  std::exception_ptr failed;
  FinishedStreams finished;
  size_t next = 0, busy = 0;
  const auto attempt = [&](auto step) {
    try {
      step();
    } catch (...) {
      if (!failed) failed = std::current_exception();
      next = chunks.size();
    }
  };
  const auto begin = [&](Stream* stream) {
    if (next == chunks.size()) return;
    attempt([&] {
      stream->start(batch, chunks[next], finished);
      ++next, ++busy;
    });
  };
  for (Stream* stream : streams) begin(stream);
  for (; busy > 0; --busy) {
    Stream* const stream = finished.next();
    attempt([&] { stream->finish(answers); });
    begin(stream);
  }
  if (failed) std::rethrow_exception(failed);
}

}  // namespace cpp_host
