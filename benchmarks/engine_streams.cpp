// Makes new engines of an OpenVINO model repeatedly, runs new row counts on two streams at once while other processes
// keep the cores busy, and compares every row with a reference. Each try is a separate process, so that a crash is
// counted too. Both streams belong to one engine, as in the C++ host until November 2026.
//
//   openvino=$(.venv/bin/python -c 'import openvino, pathlib; print(pathlib.Path(openvino.__file__).parent)')
//   library=$(basename $openvino/libs/libopenvino.so.*)
//   g++ -std=c++17 -O2 -isystem $openvino/include benchmarks/engine_streams.cpp -L$openvino/libs -l:$library \
//     -Wl,-rpath,$openvino/libs -o engine_streams
//   ./engine_streams model.xml --seconds 600 --rows 512,200,333,1000,64 --parallel 3 --busy 3 --seed 1
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <openvino/openvino.hpp>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr int kWrong = 10, kFailed = 11;  // exit codes of a try; a signal is a crash

struct Options {
  std::string model, precision = "f32";
  double seconds = 60, tolerance = 1e-3;
  long tries = 1'000'000;
  int busy = 2, together = 1, parallel = 1, engines = 1, repeats = 3, reuse = 1, core = 0;
  unsigned seed = 1;
  std::vector<size_t> rows;  // empty: random row counts
};

Options parse(int count, char** words) {
  Options options;
  const auto fail = [&](const char* why) {
    std::fprintf(stderr,
        "%s\nusage: engine_streams model.xml [--seconds S] [--tries N] [--rows 512,256,...] [--busy PROCESSES] [--seed N]\n"
        "  [--together 0|1] (a second engine of 1 stream for up to 64 rows)  [--parallel TRIES_AT_ONCE]\n"
        "  [--engines N] (fresh pairs of engines in one try)  [--repeats N] (of each row count)\n"
        "  [--reuse 0|1] (input tensors are kept where pointer and shape are the same)\n"
        "  [--precision f32|bf16] [--tolerance X] [--core 0|1] (abort at a wrong row)\n",
        why);
    std::exit(2);
  };
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word.rfind("--", 0) != 0) {
      options.model = word;
      continue;
    }
    if (i + 1 == count) fail("a value is missing");
    const std::string value = words[++i];
    if (word == "--rows") {
      for (size_t at = 0; at < value.size(); at = value.find(',', at) == std::string::npos ? value.size() : value.find(',', at) + 1) {
        options.rows.push_back(std::stoul(value.substr(at)));
      }
    } else if (word == "--precision") {
      options.precision = value;
    } else {
      const std::map<std::string, int*> whole{
          {"--busy", &options.busy}, {"--together", &options.together}, {"--parallel", &options.parallel},
          {"--engines", &options.engines}, {"--repeats", &options.repeats}, {"--reuse", &options.reuse},
          {"--core", &options.core}};
      if (whole.count(word)) *whole.at(word) = std::stoi(value);
      else if (word == "--seconds") options.seconds = std::stod(value);
      else if (word == "--tolerance") options.tolerance = std::stod(value);
      else if (word == "--tries") options.tries = std::stol(value);
      else if (word == "--seed") options.seed = static_cast<unsigned>(std::stoul(value));
      else fail(("unknown: " + word).c_str());
    }
  }
  if (options.model.empty()) fail("a model is missing");
  return options;
}

constexpr size_t kMostRows = 4096;
constexpr size_t kUndivided = 64;  // rows: a smaller batch is not divided

// A batch's rows of one input, taken from the pool of kMostRows rows that all tries share.
struct Column {
  ov::element::Type type;
  ov::Shape row;
  size_t row_bytes = 0;
  std::vector<char> pool;
  std::unique_ptr<char, decltype(&std::free)> memory{nullptr, &std::free};
  size_t capacity = 0;
};

// Data shared by all tries.
struct Shared {
  float reference[kMostRows];
  long batches, divided, wrong_batches;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Number of rows of the smallest table that this value indexes, if any.
size_t least_table(const ov::Node* node) {
  size_t least = SIZE_MAX;
  for (const ov::Output<const ov::Node>& output : node->outputs()) {
    for (const auto& input : output.get_target_inputs()) {
      const ov::Node* user = input.get_node();
      const std::string kind = user->get_type_name();
      if (kind == "Gather" || kind.rfind("EmbeddingBag", 0) == 0) {
        const ov::PartialShape table = user->get_input_partial_shape(0);
        if (input.get_index() == 1 && table[0].is_static()) least = std::min<size_t>(least, table[0].get_length());
      } else if (kind != "Result" && kind != "ShapeOf" && user->get_output_size() > 0 && user->get_output_element_type(0).is_integral()) {
        least = std::min(least, least_table(user));
      }
    }
  }
  return least;
}

std::vector<Column> columns_of(const ov::Model& model, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Column> columns;
  for (const ov::Output<const ov::Node>& input : model.inputs()) {
    Column column;
    column.type = input.get_element_type();
    size_t values = 1;
    const ov::PartialShape shape = input.get_partial_shape();
    for (size_t i = 1; i < shape.size(); ++i) {
      column.row.push_back(shape[i].get_length());
      values *= column.row.back();
    }
    column.row_bytes = values * column.type.size();
    column.pool.resize(kMostRows * column.row_bytes);
    const size_t table = least_table(input.get_node());
    // The last rows of a table may be the model's rows for missing ids.
    std::uniform_int_distribution<int64_t> id(0, table == SIZE_MAX ? 1 : std::max<int64_t>(1, static_cast<int64_t>(table) * 9 / 10) - 1);
    std::normal_distribution<float> number(0, 1);
    for (size_t i = 0; i < kMostRows * values; ++i) {
      if (column.type == ov::element::f32) reinterpret_cast<float*>(column.pool.data())[i] = number(random);
      else if (column.type == ov::element::i32) reinterpret_cast<int32_t*>(column.pool.data())[i] = static_cast<int32_t>(id(random));
      else if (column.type == ov::element::i64) reinterpret_cast<int64_t*>(column.pool.data())[i] = id(random);
      else throw std::runtime_error("inputs may be f32, i32 and i64");
    }
    columns.push_back(std::move(column));
  }
  return columns;
}

// Rows first to first + count of the batch, on a separate stream.
class Part {
 public:
  explicit Part(ov::CompiledModel& engine) : request_(engine.create_infer_request()), inputs_(engine.inputs()), kept_(inputs_.size()) {}

  void set_rows(std::vector<Column>& columns, size_t first, size_t count, bool reuse) {
    first_ = first;
    count_ = count;
    for (size_t i = 0; i < columns.size(); ++i) {
      const Column& column = columns[i];
      char* data = column.memory.get() + first * column.row_bytes;
      ov::Shape shape{count};
      shape.insert(shape.end(), column.row.begin(), column.row.end());
      if (reuse && kept_[i].first == data && kept_[i].second == shape) continue;
      request_.set_tensor(inputs_[i], ov::Tensor(column.type, shape, data));
      kept_[i] = {data, shape};
    }
  }

  ov::InferRequest& request() { return request_; }
  const float* answers() { return request_.get_output_tensor(0).data<float>(); }
  size_t rows() { return request_.get_output_tensor(0).get_shape()[0]; }
  size_t first() const { return first_; }
  size_t count() const { return count_; }

 private:
  ov::InferRequest request_;
  std::vector<ov::Output<const ov::Node>> inputs_;
  std::vector<std::pair<char*, ov::Shape>> kept_;
  size_t first_ = 0, count_ = 0;
};

ov::CompiledModel compiled(ov::Core& core, const std::shared_ptr<ov::Model>& model, const Options& options, int streams) {
  return core.compile_model(model, "CPU",
      ov::AnyMap{{"INFERENCE_PRECISION_HINT", options.precision}, {"INFERENCE_NUM_THREADS", "2"},
                 {"NUM_STREAMS", std::to_string(streams)}, {"ENABLE_CPU_PINNING", "NO"}});
}

// Fills columns with the pool's rows from `from` on, wrapping at its end, in buffers that grow like the host's.
void fill(std::vector<Column>& columns, size_t from, size_t count) {
  for (Column& column : columns) {
    const size_t bytes = count * column.row_bytes;
    if (bytes > column.capacity) {
      const size_t wanted = (std::max(bytes, 2 * column.capacity) + 63) / 64 * 64;
      char* larger = static_cast<char*>(std::aligned_alloc(64, wanted));
      column.memory.reset(larger);
      column.capacity = wanted;
    }
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(column.memory.get() + i * column.row_bytes, column.pool.data() + (from + i) % kMostRows * column.row_bytes, column.row_bytes);
    }
  }
}

class Engines {
 public:
  Engines(const Options& options, ov::Core& core, const std::shared_ptr<ov::Model>& model)
      : options_(options), divided_(compiled(core, model, options, 2)) {
    for (int i = 0; i < 2; ++i) parts_.emplace_back(divided_);
    if (options.together) {
      together_ = compiled(core, model, options, 1);
      whole_.emplace(together_);
    }
  }

  // Returns the number of wrong rows, and prints which.
  size_t run(std::vector<Column>& columns, size_t from, size_t count, Shared& shared, const std::string& where) {
    fill(columns, from, count);
    std::vector<Part*> used;
    if (whole_ && count <= kUndivided) {
      whole_->set_rows(columns, 0, count, options_.reuse);
      used.push_back(&*whole_);
      whole_->request().infer();
    } else {
      const size_t each = ((count + 1) / 2 + 15) / 16 * 16;
      for (size_t first = 0; first < count; first += each) {
        used.push_back(&parts_[used.size()]);
        used.back()->set_rows(columns, first, std::min(each, count - first), options_.reuse);
      }
      for (Part* part : used) part->request().start_async();
      for (Part* part : used) part->request().wait();
      ++shared.divided;
    }
    ++shared.batches;
    size_t wrong = 0;
    for (Part* part : used) {
      if (part->rows() != part->count()) throw std::runtime_error("an answer has not as many rows as were asked");
      const float* answers = part->answers();
      size_t here = 0, first_wrong = 0, last_wrong = 0;
      double most = 0;
      for (size_t i = 0; i < part->count(); ++i) {
        const double difference = std::fabs(answers[i] - shared.reference[(from + part->first() + i) % kMostRows]);
        if (difference <= options_.tolerance) continue;  // a NaN is wrong too
        if (here++ == 0) first_wrong = i;
        last_wrong = i;
        most = std::isnan(difference) ? difference : std::max(most, difference);
      }
      if (here > 0) {
        std::printf("WRONG %s: batch of %zu, part of %zu rows at %zu: %zu rows wrong, from %zu to %zu, by up to %g\n",
            where.c_str(), count, part->count(), part->first(), here, first_wrong, last_wrong, most);
        std::fflush(stdout);
      }
      wrong += here;
    }
    if (wrong > 0) ++shared.wrong_batches;
    return wrong;
  }

 private:
  const Options& options_;
  ov::CompiledModel divided_, together_;
  std::vector<Part> parts_;
  std::optional<Part> whole_;
};

// Every batch must give the same numbers per row; the reference are batches of 64 rows on one stream of one thread.
void make_reference(const Options& options, Shared& shared) {
  ov::Core core;
  const auto model = core.read_model(options.model);
  std::vector<Column> columns = columns_of(*model, options.seed);
  ov::CompiledModel engine = core.compile_model(model, "CPU",
      ov::AnyMap{{"INFERENCE_PRECISION_HINT", options.precision}, {"INFERENCE_NUM_THREADS", "1"}, {"NUM_STREAMS", "1"}});
  Part part(engine);
  for (const size_t step : {size_t{64}, size_t{16}}) {
    double most = 0;
    for (size_t from = 0; from < kMostRows; from += step) {
      fill(columns, from, step);
      part.set_rows(columns, 0, step, false);
      part.request().infer();
      for (size_t i = 0; i < step; ++i) {
        float& kept = shared.reference[from + i];
        if (step == 64) kept = part.answers()[i];
        else most = std::max<double>(most, std::fabs(kept - part.answers()[i]));
      }
    }
    if (step == 16 && !(most <= options.tolerance / 10)) throw std::runtime_error("the reference differs from itself by " + std::to_string(most));
  }
  const auto [low, high] = std::minmax_element(shared.reference, shared.reference + kMostRows);
  std::printf("reference: %zu rows, from %g to %g\n", kMostRows, *low, *high);
}

void one_try(const Options& options, Shared& shared, long number) {
  std::mt19937 random(options.seed + 7919 * static_cast<unsigned>(number));
  ov::Core core;
  const auto model = core.read_model(options.model);
  std::vector<Column> columns = columns_of(*model, options.seed);
  size_t wrong = 0;
  for (int engine = 0; engine < options.engines; ++engine) {
    Engines engines(options, core, model);
    std::vector<size_t> counts = options.rows;
    if (counts.empty()) {
      for (int i = 0; i < 12; ++i) counts.push_back(std::uniform_int_distribution<size_t>(1, i % 3 == 0 ? 4096 : 600)(random));
    }
    std::vector<size_t> order;
    for (const size_t count : counts) order.insert(order.end(), options.repeats, count);
    std::shuffle(order.begin(), order.end(), random);
    for (size_t i = 0; i < order.size(); ++i) {
      const std::string where = "try " + std::to_string(number) + " engine " + std::to_string(engine) + " batch " + std::to_string(i);
      wrong += engines.run(columns, random() % kMostRows, order[i], shared, where);
    }
  }
  if (wrong > 0 && options.core) std::abort();
  if (wrong > 0) std::_Exit(kWrong);
}

template <typename Work>
pid_t forked(Work work, unsigned limit_s) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (limit_s > 0) alarm(limit_s);
  try {
    work();
  } catch (const std::exception& error) {
    std::printf("FAILED: %s\n", error.what());
    std::fflush(stdout);
    std::_Exit(kFailed);
  }
  std::fflush(stdout);
  std::_Exit(0);  // the engines are destroyed already; the process's normal exit is not part of the test
}

// Works and sleeps by turns, so that threads lose their cores at different moments.
[[noreturn]] void keep_busy(unsigned seed) {
  std::mt19937 random(seed);
  for (volatile unsigned long sum = 0;;) {
    const double until = now() + 1e-3 * (1 + random() % 50);
    while (now() < until) sum = sum + 1;
    usleep(random() % 3000);
  }
}

}  // namespace

int main(int count, char** words) {
  const Options options = parse(count, words);
  auto* shared = static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  int status = 0;
  waitpid(forked([&] { make_reference(options, *shared); }, 0), &status, 0);
  if (status != 0) return 2;

  std::vector<pid_t> spinners;
  for (int i = 0; i < options.busy; ++i) spinners.push_back(forked([&] { keep_busy(options.seed + i); }, 0));
  const double start = now();
  std::map<pid_t, long> running;
  std::map<std::string, long> ends;
  long started = 0, ended = 0;
  while (true) {
    while (static_cast<int>(running.size()) < options.parallel && started < options.tries && now() - start < options.seconds) {
      const long number = started++;
      running[forked([&] { one_try(options, *shared, number); }, 300)] = number;
    }
    if (running.empty()) break;
    const pid_t child = wait(&status);
    const auto found = running.find(child);
    if (found == running.end()) continue;
    std::string how = "right";
    if (WIFSIGNALED(status)) how = "crashed by signal " + std::to_string(WTERMSIG(status));
    else if (WEXITSTATUS(status) == kWrong) how = "wrong";
    else if (WEXITSTATUS(status) != 0) how = "failed with " + std::to_string(WEXITSTATUS(status));
    if (how != "right") std::printf("try %ld: %s\n", found->second, how.c_str());
    ++ends[how];
    ++ended;
    running.erase(found);
  }
  for (const pid_t spinner : spinners) kill(spinner, SIGKILL);
  std::printf("%ld tries of %d engines in %.0f s: ", ended, options.engines, now() - start);
  for (const auto& [how, times] : ends) std::printf("%ld %s, ", times, how.c_str());
  std::printf("%ld batches, %ld of them divided, %ld wrong\n", shared->batches, shared->divided, shared->wrong_batches);
  return ends.size() == 1 && ends.count("right") ? 0 : 1;
}
