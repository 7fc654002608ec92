#include "batch.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "failure.h"
#include "shapes.h"
#include "valid_values.h"

namespace cpp_host {
namespace {

constexpr size_t kAlignment = 64;  // size of a cache line and of the widest vector
// From this size on, passing a new tensor is cheaper than copying into the old one.
constexpr size_t kWorthSharing = 64 * 1024;

const void* buffer(const InputView& view, uint32_t index, const std::string& name, uint64_t* bytes) {
  const void* data = nullptr;
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
  int64_t memory_id = 0;
  require(TRITONBACKEND_InputBuffer(view.input, index, &data, bytes, &memory, &memory_id));
  if (memory == TRITONSERVER_MEMORY_GPU) {
    throw Failure(TRITONSERVER_ERROR_UNSUPPORTED, "input " + name + " is in a GPU's memory: this host runs on the CPU");
  }
  return data;
}

std::string numbers(const std::set<int64_t>& values) {
  std::string text;
  for (const int64_t value : values) text += (text.empty() ? "" : ", ") + std::to_string(value);
  return "[" + text + "]";
}

// Copies ids of another type; they fit, since they are inside their range.
template <typename Id>
void copy_ids(const char* source, char* target, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    Id id{};
    std::memcpy(&id, source + i * sizeof id, sizeof id);
    const auto packed = static_cast<int32_t>(id);
    std::memcpy(target + i * sizeof packed, &packed, sizeof packed);
  }
}

// Copies elements of a row.
void copy_row(const TensorSpec& from, const char* source, const TensorSpec& to, char* target, size_t count) {
  if (from.type == to.type) {
    std::memcpy(target, source, count * to.element_bytes);
    return;
  }
  switch (from.type) {
    case TRITONSERVER_TYPE_UINT8: return copy_ids<uint8_t>(source, target, count);
    case TRITONSERVER_TYPE_INT8: return copy_ids<int8_t>(source, target, count);
    case TRITONSERVER_TYPE_INT16: return copy_ids<int16_t>(source, target, count);
    case TRITONSERVER_TYPE_INT64: return copy_ids<int64_t>(source, target, count);
    default: throw bad_request("input " + from.name + " is of a type that can't be packed");
  }
}

}  // namespace

Batch::Batch(const ModelConfig& config) : views_(config.inputs.size()) {
  for (const TensorSpec& spec : config.engine_inputs) columns_.push_back(Column{spec, {}, 0, 0, nullptr, nullptr, 0});
  for (const TensorSpec& spec : config.inputs) places_.push_back(place_of(spec));
}

Batch::Place Batch::place_of(const TensorSpec& spec) const {
  for (size_t i = 0; i < columns_.size(); ++i) {
    const TensorSpec& whole = columns_[i].spec;
    // A packed input may have the name of one of the inputs that it packs.
    if (whole.name == spec.name && whole.columns.empty() == spec.columns.empty()) return {spec, i, true, 0};
    size_t first = 0;
    for (const TensorSpec& packed : whole.columns) {
      if (packed.name == spec.name) return {spec, i, false, first};
      first += packed.row_elements();
    }
  }
  throw bad_request("the packed inputs have no column for input " + spec.name);
}

void Batch::start(bool alone) {
  rows_ = 0;
  alone_ = alone;
  for (Column& column : columns_) column.given = nullptr;
}

int64_t Batch::append(TRITONBACKEND_Request* request) {
  std::set<int64_t> different;
  size_t bytes = 0;
  for (size_t i = 0; i < places_.size(); ++i) {
    views_[i] = view(request, places_[i]);
    bytes |= views_[i].bytes;
    if (views_[i].rows() != views_[0].rows()) different.insert({views_[0].rows(), views_[i].rows()});
  }
  if (!different.empty()) {
    throw bad_request("the inputs of a request have " + numbers(different) + " rows: they must agree");
  }
  const int64_t rows = places_.empty() ? 0 : views_[0].rows();
  // Without a value in a row, nothing would limit their number.
  if (rows > 0 && bytes == 0) throw bad_request("the rows of a request hold no values: send at least one in each row");
  for (size_t i = 0; i < places_.size(); ++i) {
    if (places_[i].is_whole) {
      take(columns_[places_[i].column], views_[i]);
    } else {
      pack(places_[i], views_[i]);
    }
  }
  rows_ += rows;
  return rows;
}

InputView Batch::view(TRITONBACKEND_Request* request, const Place& place) const {
  InputView view{};
  uint32_t rank = 0;
  uint64_t bytes = 0;
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
  require(TRITONBACKEND_RequestInput(request, place.spec.name.c_str(), &view.input));
  require(TRITONBACKEND_InputProperties(view.input, nullptr, &type, &view.shape, &rank, &bytes, &view.buffers));
  view.rank = rank;
  view.bytes = bytes;
  if (type != place.spec.type) throw bad_request("input " + place.spec.name + " is of another type than the model's");
  check_shape(place, view);
  return view;
}

void Batch::check_shape(const Place& place, const InputView& view) const {
  const TensorSpec& spec = place.spec;
  const Column& column = columns_[place.column];
  bool fits = view.rank == spec.row_shape.size() + 1;
  for (size_t i = 1; fits && i < view.rank; ++i) {
    fits = spec.row_shape[i - 1] == -1 || spec.row_shape[i - 1] == view.shape[i];
    // Rows of free shape are joined only if all have the same shape.
    fits = fits && (rows_ == 0 || !place.is_whole || column.row_shape[i - 1] == view.shape[i]);
  }
  if (!fits) throw bad_request("input " + spec.name + " has another shape than the model takes, or than the requests before it");
  const std::optional<size_t> wanted = tensor_bytes(view.shape, view.rank, spec.element_bytes);
  if (!wanted) throw bad_request("input " + spec.name + " has an impossible shape: no memory holds so many elements");
  if (view.bytes != *wanted) {
    throw bad_request(
        "input " + spec.name + " holds " + std::to_string(view.bytes) + " bytes, its shape needs " +
        std::to_string(*wanted));
  }
}

void Batch::take(Column& column, const InputView& view) {
  const TensorSpec& spec = column.spec;
  if (rows_ == 0) {
    column.row_shape.assign(view.shape + 1, view.shape + view.rank);
    column.row_bytes = spec.element_bytes;
    for (const int64_t size : column.row_shape) column.row_bytes *= static_cast<size_t>(size);
  }
  uint64_t bytes = 0;
  // The client may change memory that it shares after the check: ids are checked in a copy, since one outside its table
  // makes an engine read elsewhere. Of other numbers only the client's own answers depend.
  if (alone_ && view.buffers == 1 && view.bytes >= kWorthSharing && !is_whole(spec.type)) {
    const void* data = buffer(view, 0, spec.name, &bytes);
    if (bytes == view.bytes && reinterpret_cast<uintptr_t>(data) % kAlignment == 0) {
      check_values(spec, data, bytes / spec.element_bytes);
      column.given = static_cast<const char*>(data);
      column.given_rows = view.rows();
      return;
    }
  }
  const size_t start = static_cast<size_t>(rows_) * column.row_bytes;
  grow(column, start + view.bytes, start);
  size_t at = start;
  for (uint32_t index = 0; index < view.buffers; ++index) {
    const void* data = buffer(view, index, spec.name, &bytes);
    if (at + bytes > start + view.bytes) throw bad_request("input " + spec.name + " is longer than it says");
    std::memcpy(column.memory.get() + at, data, bytes);
    at += bytes;
  }
  if (at != start + view.bytes) throw bad_request("input " + spec.name + " is shorter than it says");
  // The copy is in the cache and aligned for vectors; the request's own buffer may not be aligned.
  check_values(spec, column.memory.get() + start, view.bytes / spec.element_bytes);
}

void Batch::pack(const Place& place, const InputView& view) {
  Column& column = columns_[place.column];
  if (rows_ == 0) {
    column.row_shape = column.spec.row_shape;
    column.row_bytes = column.spec.row_elements() * column.spec.element_bytes;
  }
  const size_t rows = static_cast<size_t>(view.rows()), before = static_cast<size_t>(rows_);
  grow(column, (before + rows) * column.row_bytes, before * column.row_bytes);
  joined_.clear();  // a copy, also of memory in one piece, for the same reason as in take
  for (uint32_t index = 0; index < view.buffers; ++index) {
    uint64_t bytes = 0;
    const auto* part = static_cast<const char*>(buffer(view, index, place.spec.name, &bytes));
    joined_.insert(joined_.end(), part, part + bytes);
  }
  if (joined_.size() != view.bytes) throw bad_request("input " + place.spec.name + " is longer or shorter than it says");
  const char* data = joined_.data();
  const size_t width = place.spec.row_elements();
  check_values(place.spec, data, rows * width);
  char* target = column.memory.get() + before * column.row_bytes + place.first_element * column.spec.element_bytes;
  for (size_t row = 0; row < rows; ++row, target += column.row_bytes, data += width * place.spec.element_bytes) {
    copy_row(place.spec, data, column.spec, target, width);
  }
}

void Batch::fill(int64_t rows, Random random) {
  start(false);
  for (Column& column : columns_) {
    column.row_shape = column.spec.row_shape;
    size_t elements = 1;
    for (int64_t& size : column.row_shape) elements *= static_cast<size_t>(size = size == -1 ? 1 : size);
    column.row_bytes = elements * column.spec.element_bytes;
    grow(column, static_cast<size_t>(rows) * column.row_bytes, 0);
    random.fill(column.spec, column.memory.get(), static_cast<size_t>(rows) * elements);
  }
  rows_ = rows;
}

void Batch::complete(const std::vector<Chunk>& chunks) {
  int64_t end = rows_, begin = rows_;
  for (const Chunk& chunk : chunks) {
    if (chunk.first + chunk.bucket <= rows_) continue;
    end = std::max(end, chunk.first + chunk.bucket);
    begin = std::min(begin, chunk.first);
  }
  if (end == rows_) return;
  for (Column& column : columns_) {
    const size_t row_bytes = column.row_bytes;
    int64_t held = rows_;  // rows in ``memory``
    if (column.given != nullptr) {
      held = rows_ - begin;
      grow(column, static_cast<size_t>(end - begin) * row_bytes, 0);
      std::memcpy(column.memory.get(), column.given + static_cast<size_t>(begin) * row_bytes, static_cast<size_t>(held) * row_bytes);
      column.given_rows = begin;
    } else {
      grow(column, static_cast<size_t>(end) * row_bytes, static_cast<size_t>(rows_) * row_bytes);
    }
    const char* last = column.memory.get() + static_cast<size_t>(held - 1) * row_bytes;
    for (int64_t i = 0; i < end - rows_; ++i) {
      std::memcpy(column.memory.get() + static_cast<size_t>(held + i) * row_bytes, last, row_bytes);
    }
  }
}

void Batch::grow(Column& column, size_t bytes, size_t kept_bytes) {
  if (bytes <= column.capacity) return;
  const size_t wanted = (std::max(bytes, 2 * column.capacity) + kAlignment - 1) / kAlignment * kAlignment;
  std::unique_ptr<char, FreeMemory> larger(static_cast<char*>(std::aligned_alloc(kAlignment, wanted)));
  if (larger == nullptr) throw std::bad_alloc();
  if (kept_bytes > 0) std::memcpy(larger.get(), column.memory.get(), kept_bytes);
  column.memory = std::move(larger);
  column.capacity = wanted;
}

const char* Batch::row(size_t input, int64_t index) const {
  const Column& column = columns_[input];
  const bool is_given = column.given != nullptr && index < column.given_rows;
  const char* data = is_given ? column.given : column.memory.get();
  const int64_t before = column.given != nullptr && !is_given ? column.given_rows : 0;
  return data + static_cast<size_t>(index - before) * column.row_bytes;
}

}  // namespace cpp_host
