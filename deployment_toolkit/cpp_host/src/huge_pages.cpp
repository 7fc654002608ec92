#include "huge_pages.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

namespace cpp_host {
namespace {

constexpr uintptr_t kHugePage = uintptr_t{1} << 21;
constexpr int kCollapse = 25;  // MADV_COLLAPSE, which older headers lack

// True if a line of /proc/self/maps is memory that this process allocated: not of a file, and writable.
bool is_allocated(const std::string& rights, const std::string& inode, const std::string& name) {
  return rights == "rw-p" && inode == "0" && (name.empty() || name == "[heap]");
}

}  // namespace

void use_huge_pages() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string range, rights, offset, device, inode, name;
    words >> range >> rights >> offset >> device >> inode >> name;
    unsigned long first = 0, end = 0;
    if (!is_allocated(rights, inode, name) || std::sscanf(range.c_str(), "%lx-%lx", &first, &end) != 2) continue;
    first = (first + kHugePage - 1) & ~(kHugePage - 1);
    end &= ~(kHugePage - 1);
    // An error means that some pages were never used: these stay unchanged, the others are moved.
    if (first < end) madvise(reinterpret_cast<void*>(first), end - first, kCollapse);
  }
}

}  // namespace cpp_host
