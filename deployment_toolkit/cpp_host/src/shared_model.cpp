#include "shared_model.h"

#include <ftw.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "checksums.h"
#include "failure.h"

namespace cpp_host {
namespace {

// Files of a folder by their places on the disk, which stay when a file is linked and change when it is replaced.
std::string identity(const std::string& folder) {
  static thread_local std::vector<std::string>* files = nullptr;
  std::vector<std::string> found;
  files = &found;
  const auto add = [](const char* path, const struct stat* status, int kind, struct FTW* place) {
    if (kind != FTW_F || std::strcmp(path + place->base, kChecksums) == 0) return 0;
    files->push_back(
        std::string(path + place->base) + " " + std::to_string(status->st_dev) + " " + std::to_string(status->st_ino) +
        " " + std::to_string(status->st_mtim.tv_sec) + "." + std::to_string(status->st_mtim.tv_nsec));
    return 0;
  };
  constexpr int kOpenFolders = 8;
  if (nftw(folder.c_str(), add, kOpenFolders, 0) != 0) throw Failure(TRITONSERVER_ERROR_INTERNAL, folder + " can't be read");
  std::sort(found.begin(), found.end());
  std::string text;
  for (const std::string& file : found) text += file + "\n";
  return text;
}

void describe(const std::vector<TensorSpec>& specs, std::string& text) {
  for (const TensorSpec& spec : specs) {
    text += spec.name + " " + std::to_string(spec.type);
    for (const int64_t size : spec.row_shape) text += " " + std::to_string(size);
    if (spec.value_range) {
      text += " in " + std::to_string(spec.value_range->first) + " " + std::to_string(spec.value_range->second);
    }
    text += "\n";
    describe(spec.columns, text);
  }
}

std::string key_of(const std::string& folder, const ModelConfig& config) {
  std::string key = identity(folder) + config.format + " " + config.file + " " + config.precision;
  for (const int64_t number : {int64_t{config.threads}, int64_t{config.streams}, config.max_batch_size, int64_t{config.undivided_rows}}) {
    key += " " + std::to_string(number);
  }
  key += "\n";
  describe(config.engine_inputs, key);
  describe(config.outputs, key);
  return key;
}

}  // namespace

SharedModel::SharedModel(const std::string& path, const ModelConfig& told)
    : config(told), engine(open_engine(path, config)), streams(*engine, config) {}

std::shared_ptr<SharedModel> load_shared(const std::string& version_folder, const ModelConfig& config) {
  static std::mutex guard;
  static std::map<std::string, std::weak_ptr<SharedModel>> loaded;
  const std::string key = key_of(version_folder, config);
  const std::lock_guard<std::mutex> lock(guard);
  for (auto entry = loaded.begin(); entry != loaded.end();) entry = entry->second.expired() ? loaded.erase(entry) : std::next(entry);
  std::shared_ptr<SharedModel> model = loaded[key].lock();
  if (model != nullptr) {
    log_info("shares the loaded model of the same files");
    return model;
  }
  require_unchanged(version_folder);  // before a parser reads a damaged file
  model = std::make_shared<SharedModel>(version_folder + "/" + config.file, config);
  loaded[key] = model;
  return model;
}

}  // namespace cpp_host
