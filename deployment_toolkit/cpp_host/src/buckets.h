// Row counts in which an engine is asked. There are few, so that all of them can be prepared, and looked at, before the
// first request comes.
#pragma once

#include <cstdint>
#include <vector>

#include "model_config.h"

namespace cpp_host {

// Rows of a batch that are computed at once: count of them from first on, asked as the size of a bucket. The rows
// between are padding, whose answers nobody reads.
struct Chunk {
  int64_t first, count, bucket;
};

class Buckets {
 public:
  explicit Buckets(const ModelConfig& config);

  // In ascending order.
  const std::vector<int64_t>& sizes() const { return sizes_; }
  int64_t largest() const { return sizes_.back(); }

  // On how many streams at once it is worth to compute so many rows.
  static int useful_streams(int64_t rows, int streams);
  // All rows of a batch, for so many streams, which take the next chunk as they end one; large ones first.
  std::vector<Chunk> divide(int64_t rows, int streams) const;

 private:
  void cut(int64_t first, int64_t count, std::vector<Chunk>& chunks) const;

  std::vector<int64_t> sizes_;
  int64_t most_padding_;
};

}  // namespace cpp_host
