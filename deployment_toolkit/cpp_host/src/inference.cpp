#include "inference.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <mutex>

#include "failure.h"

namespace cpp_host {
namespace {

// Fewer rows are not worth the way to another thread and back.
constexpr int64_t kLeastRows = 16;
// Parts start at multiples of this: at a cache line, for rows of one number.
constexpr int64_t kRowMultiple = 16;

}  // namespace

void Part::set_rows(const Batch& batch, int64_t first, int64_t count) {
  first_ = first;
  count_ = count;
  inputs_.resize(batch.inputs());
  for (size_t i = 0; i < inputs_.size(); ++i) {
    Input& input = inputs_[i];
    const char* data = batch.row(i, first);
    std::vector<int64_t> shape{count};
    shape.insert(shape.end(), batch.row_shape(i).begin(), batch.row_shape(i).end());
    if (data == input.data && shape == input.shape) continue;
    // The engine only reads its inputs, though its tensors have no const.
    Tensor tensor = tensor_of(batch.spec(i), shape, const_cast<char*>(data));
    request_.set_input(i, tensor.get());
    input.tensor = std::move(tensor);
    input.data = data;
    input.shape = std::move(shape);
  }
}

void Part::read(const std::vector<TensorSpec>& outputs) {
  answers_.clear();
  for (size_t i = 0; i < outputs.size(); ++i) {
    answers_.push_back(request_.output(i));
    const std::vector<int64_t>& shape = answers_.back().shape;
    if (shape.empty() || shape[0] != count_) {
      throw Failure(TRITONSERVER_ERROR_INTERNAL, "output " + outputs[i].name + " has not one row for each row of the batch");
    }
  }
}

Inference::Inference(const Engines& engines, const ModelConfig& config) : engines_(engines), config_(config) {
  for (int i = 0; i < config.streams; ++i) parts_.emplace_back(engines.divided);
  if (engines.together) whole_.emplace(*engines.together);
}

void Inference::run(const Batch& batch) {
  if (whole_ && batch.rows() <= config_.undivided_rows) {
    const std::unique_lock<std::mutex> turn(engines_.turn, std::try_to_lock);
    if (turn.owns_lock()) {
      whole_->set_rows(batch, 0, batch.rows());
      used_.assign(1, &*whole_);
      infer(*whole_);
      return;
    }
  }
  divide(batch);
  if (used_.size() == 1) {
    infer(*used_[0]);
    return;
  }
  std::exception_ptr failed;
  size_t started = 0;
  try {
    for (; started < used_.size(); ++started) used_[started]->request().start();
  } catch (const Failure&) {
    failed = std::current_exception();
  }
  for (size_t i = 0; i < started; ++i) {  // all of them: the buffers may not go before
    try {
      used_[i]->request().wait();
      used_[i]->read(config_.outputs);
    } catch (const Failure&) {
      failed = std::current_exception();
    }
  }
  if (failed) std::rethrow_exception(failed);
}

void Inference::infer(Part& part) {
  part.request().infer();
  part.read(config_.outputs);
}

void Inference::divide(const Batch& batch) {
  const int64_t rows = batch.rows();
  const int64_t wanted = std::clamp<int64_t>(rows / kLeastRows, 1, static_cast<int64_t>(parts_.size()));
  const int64_t each = wanted == 1 ? rows : ((rows + wanted - 1) / wanted + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
  used_.clear();
  for (int64_t first = 0; first < rows || used_.empty(); first += each) {
    Part& part = parts_[used_.size()];
    part.set_rows(batch, first, std::min(each, rows - first));
    used_.push_back(&part);
  }
}

std::vector<int64_t> Inference::row_shape(size_t output) const {
  const std::vector<int64_t>& shape = used_[0]->answer(output).shape;
  return {shape.begin() + 1, shape.end()};
}

void Inference::copy(size_t output, int64_t first, int64_t count, char* target) const {
  size_t row_bytes = config_.outputs[output].element_bytes;
  for (const int64_t size : row_shape(output)) row_bytes *= static_cast<size_t>(size);
  for (const Part* part : used_) {
    const int64_t start = std::max(first, part->first()), end = std::min(first + count, part->first() + part->count());
    if (start >= end) continue;
    const char* source = part->answer(output).data + static_cast<size_t>(start - part->first()) * row_bytes;
    std::memcpy(target + static_cast<size_t>(start - first) * row_bytes, source, static_cast<size_t>(end - start) * row_bytes);
  }
}

}  // namespace cpp_host
