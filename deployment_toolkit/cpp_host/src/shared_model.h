// A loaded model, which all models of the server with the same files and settings share.
#pragma once

#include <memory>
#include <string>

#include "engines/engine.h"
#include "model_config.h"
#include "streams.h"

namespace cpp_host {

struct SharedModel {
  SharedModel(const std::string& path, const ModelConfig& config);

  const ModelConfig config;
  const std::unique_ptr<Engine> engine;
  Streams streams;
};

// Loads the model of a version's folder, or returns the loaded one: its files must be the very same (hard links), and the
// configuration alike in everything but the inputs of requests. Throws Failure as open_engine and Streams do.
std::shared_ptr<SharedModel> load_shared(const std::string& version_folder, const ModelConfig& config);

}  // namespace cpp_host
