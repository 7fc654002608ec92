#include "buckets.h"

#include <algorithm>

namespace cpp_host {
namespace {

// For fewer rows, the switch to another thread costs more than it saves.
constexpr int64_t kLeastRows = 16;
// Chunks start at multiples of this number: rows of one number then start at a cache line.
constexpr int64_t kRowMultiple = 16;
// Measured for 5 x 1024 hidden units: float32 gains little from larger chunks; bfloat16 and int8 gain, because their
// products are fast while reading the weights takes as long.
constexpr int64_t kLargestFloat32 = 1024;
constexpr int64_t kLargest = 2048;
// More padding than this costs more than another chunk, which reads the weights once more.
constexpr int64_t kMostPaddingFloat32 = 32;
constexpr int64_t kMostPadding = 128;

// The distance between sizes grows with the size, so that padding stays a small part of it. Each size costs preparation
// time before the model is ready, most in float32.
int64_t after(int64_t size, bool float32) {
  if (size < kRowMultiple) return 2 * size;
  if (float32) {
    if (size < 64) return size + 16;
    if (size < 128) return size + 32;
    if (size < 256) return size + 64;
    return 2 * size;
  }
  if (size < 256) return size + 16;
  if (size < 512) return size + 64;
  if (size < 1024) return size + 128;
  return 2 * size;
}

}  // namespace

Buckets::Buckets(const ModelConfig& config) {
  const bool float32 = config.precision == "f32";
  most_padding_ = float32 ? kMostPaddingFloat32 : kMostPadding;
  int64_t largest = float32 ? kLargestFloat32 : kLargest;
  if (config.max_batch_size > 0) largest = std::min(largest, config.max_batch_size);
  int64_t size = 1;
  for (; size < largest; size = after(size, float32)) sizes_.push_back(size);
  if (size - largest <= most_padding_) sizes_.push_back(size);
}

int Buckets::useful_streams(int64_t rows, int streams) {
  return static_cast<int>(std::clamp<int64_t>(rows / kLeastRows, 1, streams));
}

std::vector<Chunk> Buckets::divide(int64_t rows, int streams) const {
  std::vector<Chunk> chunks;
  const int64_t wanted = useful_streams(rows, streams);
  const int64_t each = wanted == 1 ? rows : ((rows + wanted - 1) / wanted + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
  for (int64_t first = 0; first < rows; first += each) cut(first, std::min(each, rows - first), chunks);
  const auto larger = [](const Chunk& one, const Chunk& other) { return one.bucket > other.bucket; };
  std::stable_sort(chunks.begin(), chunks.end(), larger);
  return chunks;
}

void Buckets::cut(int64_t first, int64_t count, std::vector<Chunk>& chunks) const {
  while (count > 0) {
    const auto above = std::lower_bound(sizes_.begin(), sizes_.end(), count);
    const bool fits = above != sizes_.end() && (*above - count <= most_padding_ || above == sizes_.begin());
    const int64_t bucket = fits ? *above : *(above - 1);
    const int64_t taken = std::min(count, bucket);
    chunks.push_back({first, taken, bucket});
    first += taken;
    count -= taken;
  }
}

}  // namespace cpp_host
