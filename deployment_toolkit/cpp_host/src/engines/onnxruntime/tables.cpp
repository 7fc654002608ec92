#include "tables.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <string_view>

#include "../../failure.h"
#include "../wire.h"

namespace cpp_host::onnxruntime {
namespace {

constexpr size_t kLargeBytes = 1 << 20;
constexpr size_t kAlignment = 64;  // size of a cache line and of the widest vector
constexpr uint64_t kExternal = 1;  // TensorProto.DataLocation

class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (file >= 0 && fstat(file, &status) == 0 && status.st_size > 0) {
      size_ = static_cast<size_t>(status.st_size);
      data_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    }
    const int error = errno;
    if (file >= 0) close(file);
    if (data_ == MAP_FAILED) throw Failure(TRITONSERVER_ERROR_INTERNAL, std::strerror(error));
  }
  MappedFile(const MappedFile&) = delete;
  ~MappedFile() { munmap(data_, size_); }

  std::string_view content() const { return {static_cast<const char*>(data_), size_}; }

 private:
  void* data_ = MAP_FAILED;
  size_t size_ = 0;
};

// Name of the table if a node of a graph is a lookup, else empty.
std::string_view looked_up(std::string_view node) {
  std::string_view first_input, kind;
  for (WireReader fields(node); fields.next();) {
    if (fields.number() == 1 && first_input.empty()) first_input = fields.bytes();
    if (fields.number() == 4) kind = fields.bytes();
  }
  return kind == "Gather" ? first_input : std::string_view();
}

struct Initializer {
  explicit Initializer(std::string_view tensor) {
    for (WireReader fields(tensor); fields.next();) {
      switch (fields.number()) {
        case 1: add_sizes(fields); break;
        case 2: type = static_cast<int>(fields.integer()); break;
        case 8: name = fields.bytes(); break;
        case 9: data = fields.bytes(); break;
        case 14: is_inside = fields.integer() != kExternal; break;
        default: break;
      }
    }
  }

  std::string_view name, data;
  std::vector<int64_t> shape;
  int type = 0;  // the same numbers as the API's
  bool is_inside = true;

 private:
  void add_sizes(const WireReader& field) {
    if (field.bytes().empty()) return shape.push_back(static_cast<int64_t>(field.integer()));
    // Packed: a list of numbers without tags. A tag in front of each makes it a message.
    std::string tagged;
    bool first = true;
    for (const char byte : field.bytes()) {
      if (first) tagged += '\x08';
      tagged += byte;
      first = (byte & 0x80) == 0;
    }
    for (WireReader sizes(tagged); sizes.next();) shape.push_back(static_cast<int64_t>(sizes.integer()));
  }
};

Table copy_of(const Initializer& initializer) {
  const size_t bytes = (initializer.data.size() + kAlignment - 1) / kAlignment * kAlignment;
  Table table{std::string(initializer.name), nullptr, nullptr};
  table.memory.reset(static_cast<char*>(std::aligned_alloc(kAlignment, bytes)));
  if (table.memory == nullptr) throw std::bad_alloc();
  std::memcpy(table.memory.get(), initializer.data.data(), initializer.data.size());
  table.value = tensor_of(
      initializer.type, initializer.shape.data(), initializer.shape.size(), table.memory.get(), initializer.data.size());
  return table;
}

}  // namespace

void Table::FreeMemory::operator()(char* memory) const { std::free(memory); }

std::vector<Table> read_tables(const std::string& path) {
  const MappedFile file(path);
  std::set<std::string_view> lookups;
  std::vector<Table> tables;
  // Of ModelProto field 7 is the graph; of GraphProto 1 are nodes, 5 initializers. Source: onnx.proto.
  const auto each = [&](int wanted, auto use) {
    for (WireReader model(file.content()); model.next();) {
      if (model.number() != 7) continue;
      for (WireReader graph(model.bytes()); graph.next();) {
        if (graph.number() == wanted) use(graph.bytes());
      }
    }
  };
  each(1, [&](std::string_view node) { lookups.insert(looked_up(node)); });
  each(5, [&](std::string_view tensor) {
    const Initializer initializer(tensor);
    const bool is_table = initializer.is_inside && lookups.count(initializer.name) > 0;
    if (is_table && initializer.data.size() >= kLargeBytes) tables.push_back(copy_of(initializer));
  });
  return tables;
}

}  // namespace cpp_host::onnxruntime
