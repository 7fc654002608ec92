#include "preparation.h"

#include <cmath>
#include <cstdio>

#include "failure.h"
#include "huge_pages.h"
#include "numbers.h"

namespace cpp_host {
namespace {

std::mutex one_at_a_time;

// Relative to the largest number of an output. In float32 the order of sums differs between sizes; in bfloat16 and int8
// each product is also rounded to 8 bits.
constexpr double kFloat32Tolerance = 1e-5;
constexpr double kReducedTolerance = 0.02;

std::string text(double number) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.2g", number);
  return buffer;
}

}  // namespace

Preparation::Preparation(Engine& engine, const ModelConfig& config, const Buckets& buckets)
    : config_(config), buckets_(buckets), turn_(one_at_a_time), batch_(config), expected_(config.outputs),
      undivided_(std::make_unique<Stream>(engine, config.threads)) {
  const int64_t rows = buckets.largest();
  batch_.fill(rows, Random());
  expected_.start(rows);
  infer({undivided_.get()}, batch_, {{0, rows, rows}}, expected_);
  engine.has_started();
  const double relative = config.precision == "f32" ? kFloat32Tolerance : kReducedTolerance;
  for (size_t i = 0; i < config.outputs.size(); ++i) {
    const size_t count = static_cast<size_t>(rows) * expected_.row_bytes(i) / config.outputs[i].element_bytes;
    const bool whole = is_whole(config.outputs[i].type);
    tolerances_.push_back(whole ? 0 : relative * largest_magnitude(config.outputs[i].type, expected_.row(i, 0), count));
  }
}

void Preparation::prepare(Stream& stream, int64_t rows, const std::string& name) {
  Answers answers(config_.outputs);
  std::string sizes;
  double worst = 0, allowed = 0;
  size_t worst_output = 0;
  for (const int64_t size : buckets_.sizes()) {
    answers.start(size);
    infer({&stream}, batch_, {{0, size, size}}, answers);
    bool differs = false;
    for (size_t i = 0; i < config_.outputs.size(); ++i) {
      const double found = difference(i, answers, size);
      largest_difference_ = std::max(largest_difference_, found);
      if (found <= tolerances_[i]) continue;
      differs = true;
      if (found >= worst) worst = found, allowed = tolerances_[i], worst_output = i;
    }
    if (differs) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
    if (size >= rows) break;
  }
  if (sizes.empty()) return;
  throw Failure(
      TRITONSERVER_ERROR_INTERNAL,
      "the engine answers wrong, the model is not loaded: asked for " + sizes + " rows at once, " + name + " answers " +
          config_.outputs[worst_output].name + " by up to " + text(worst) + " otherwise than the same rows are answered among " +
          std::to_string(buckets_.largest()) + ", allowed is " + text(allowed) +
          "; load it once more, and if that does not help convert the model anew or use the Python host");
}

std::unique_ptr<Stream> Preparation::release_undivided(int64_t rows) {
  prepare(*undivided_, rows, "all threads together");
  return std::move(undivided_);
}

void Preparation::finish() const {
  use_huge_pages();
  const auto taken = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start_);
  log_info(
      "prepared " + std::to_string(buckets_.sizes().size()) + " sizes of up to " + std::to_string(buckets_.largest()) +
      " rows on " + std::to_string(config_.streams) + " streams in " + std::to_string(taken.count()) +
      " ms, largest difference " + text(largest_difference_));
}

double Preparation::difference(size_t output, const Answers& answers, int64_t rows) const {
  const size_t bytes = static_cast<size_t>(rows) * expected_.row_bytes(output);
  if (answers.row_bytes(output) != expected_.row_bytes(output)) return INFINITY;
  const TensorSpec& spec = config_.outputs[output];
  return largest_difference(spec.type, expected_.row(output, 0), answers.row(output, 0), bytes / spec.element_bytes);
}

}  // namespace cpp_host
