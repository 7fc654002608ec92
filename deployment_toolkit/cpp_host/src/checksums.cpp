#include "checksums.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <vector>

#include "failure.h"
#include "sha256.h"

namespace cpp_host {
namespace {

constexpr size_t kDigits = 64, kPiece = 1 << 20;

struct Closing {
  void operator()(FILE* file) const { std::fclose(file); }
};

Failure changed(const std::string& what) {
  return Failure(TRITONSERVER_ERROR_INVALID_ARG, what + ": deploy the model again (model-navigator triton-config-model)");
}

std::string digest_of(const std::string& path) {
  const std::unique_ptr<FILE, Closing> file(std::fopen(path.c_str(), "rb"));
  if (file == nullptr) throw changed(path + " is missing, or can't be read");
  std::setvbuf(file.get(), nullptr, _IONBF, 0);
  std::vector<uint8_t> piece(kPiece);
  Sha256 digest;
  size_t size = 0;
  while ((size = std::fread(piece.data(), 1, piece.size(), file.get())) > 0) digest.add(piece.data(), size);
  if (std::ferror(file.get()) != 0) throw changed(path + " can't be read to its end");
  return digest.digest();
}

}  // namespace

void require_unchanged(const std::string& version_folder) {
  const auto started = std::chrono::steady_clock::now();
  const std::string list_path = version_folder + "/" + kChecksums;
  std::ifstream list(list_path);
  if (!list) return log_info(version_folder + " has no " + kChecksums + ": its files are not compared");
  int files = 0;
  for (std::string line; std::getline(list, line); ++files) {
    const bool is_entry = line.size() > kDigits + 2 && line.compare(kDigits, 2, "  ") == 0;
    if (!is_entry) throw changed(list_path + " is damaged in line " + std::to_string(files + 1));
    const std::string path = version_folder + "/" + line.substr(kDigits + 2), found = digest_of(path);
    if (line.compare(0, kDigits, found) != 0) {
      throw changed(path + " is not the file that was deployed: its SHA-256 is " + found + ", not " + line.substr(0, kDigits));
    }
  }
  if (files == 0) throw changed(list_path + " is empty");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  log_info(std::to_string(files) + " files have their checksums, compared in " + std::to_string(took.count()) + " s");
}

}  // namespace cpp_host
