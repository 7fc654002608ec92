// Prints the SHA-256 of pieces of standard input: for each size that is named, with the CPU's instructions and without.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "sha256.h"

int main(int count, char** sizes) {
  std::vector<uint8_t> data(1 << 24);
  data.resize(std::fread(data.data(), 1, data.size(), stdin));
  for (int i = 1; i < count; ++i) {
    const size_t size = std::strtoul(sizes[i], nullptr, 10);
    for (const bool with_instructions : {true, false}) {
      cpp_host::Sha256 digest(with_instructions);
      const size_t first = size / 3;
      digest.add(data.data(), first);
      digest.add(data.data() + first, size - first);
      std::puts(digest.digest().c_str());
    }
  }
}
