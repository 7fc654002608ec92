#include "stream.h"

#include <algorithm>
#include <cstring>

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
  {
    const std::lock_guard<std::mutex> lock(guard_);
    const bool same = std::equal(
        answer.shape.begin() + 1, answer.shape.end(), column.row_shape.begin(), column.row_shape.end());
    if (column.known && !same) {
      throw Failure(TRITONSERVER_ERROR_INTERNAL, "output " + specs_[output].name + " has rows of different shapes");
    }
    if (!column.known) {
      if (!same) set_row_shape(output, {answer.shape.begin() + 1, answer.shape.end()});
      const size_t bytes = static_cast<size_t>(rows_) * column.row_bytes;
      if (column.data.size() < bytes) column.data.resize(bytes);
      column.known = true;
    }
  }
  const size_t bytes = static_cast<size_t>(chunk.count) * column.row_bytes;
  if (bytes > 0) std::memcpy(column.data.data() + static_cast<size_t>(chunk.first) * column.row_bytes, answer.data, bytes);
}

const char* Answers::row(size_t output, int64_t index) const {
  return columns_[output].data.data() + static_cast<size_t>(index) * columns_[output].row_bytes;
}

void Stream::infer(const Batch& batch, const Chunk& chunk, Answers& answers) {
  inputs_.resize(batch.inputs());
  for (size_t i = 0; i < inputs_.size(); ++i) {
    Input& input = inputs_[i];
    const char* data = batch.row(i, chunk.first);
    std::vector<int64_t> shape{chunk.bucket};
    shape.insert(shape.end(), batch.row_shape(i).begin(), batch.row_shape(i).end());
    if (data == input.data && shape == input.shape) continue;
    // The engine only reads its inputs, though its tensors have no const.
    Tensor tensor = tensor_of(batch.spec(i), shape, const_cast<char*>(data));
    request_.set_input(i, tensor.get());
    input.tensor = std::move(tensor);
    input.data = data;
    input.shape = std::move(shape);
  }
  request_.infer();
  for (size_t i = 0; i < answers.outputs(); ++i) answers.take(i, request_.output(i), chunk);
}

}  // namespace cpp_host
