// Row counts (buckets) that an engine computes. They are few, so that all of them can be prepared and checked before
// the first request.
#pragma once

#include <cstdint>
#include <vector>

#include "model_config.h"

namespace cpp_host {

// Rows of a batch that are computed at once: count rows from first on, padded to the size of a bucket. The answers of
// the padding are not read.
struct Chunk {
  int64_t first, count, bucket;
};

class Buckets {
 public:
  explicit Buckets(const ModelConfig& config);

  // In ascending order.
  const std::vector<int64_t>& sizes() const { return sizes_; }
  int64_t largest() const { return sizes_.back(); }

  // Number of streams on which so many rows are computed fastest.
  static int useful_streams(int64_t rows, int streams);
  // Divides the rows of a batch for so many streams; a stream that ends a chunk takes the next. Large chunks first.
  std::vector<Chunk> divide(int64_t rows, int streams) const;

 private:
  void cut(int64_t first, int64_t count, std::vector<Chunk>& chunks) const;

  std::vector<int64_t> sizes_;
  int64_t most_padding_;
};

}  // namespace cpp_host
