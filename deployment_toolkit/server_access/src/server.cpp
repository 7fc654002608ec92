// Gives tritonserver options that must not stand in its command line, which every user of the host can read. They are
// taken from an environment variable, one on a line; the processes of its models inherit neither it nor this library.

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared.h"

namespace {

using Main = int (*)(int, char**, char**);

constexpr char kProgram[] = "tritonserver";
constexpr char kLibrary[] = "libtriton_access.so";
constexpr char kPreload[] = "LD_PRELOAD";

Main program_main = nullptr;

const char* base_name(const char* path) {
  const char* slash = strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

void stop_preloading() {
  const char* preloaded = getenv(kPreload);
  if (preloaded == nullptr) return;
  char* rest = strdup(preloaded);
  char* kept = static_cast<char*>(calloc(strlen(preloaded) + 2, 1));
  if (rest == nullptr || kept == nullptr) return;
  char* state = nullptr;
  for (char* item = strtok_r(rest, ": ", &state); item != nullptr; item = strtok_r(nullptr, ": ", &state)) {
    if (strcmp(base_name(item), kLibrary) == 0) continue;
    if (*kept != '\0') strcat(kept, ":");
    strcat(kept, item);
  }
  if (*kept == '\0') {
    unsetenv(kPreload);
  } else {
    setenv(kPreload, kept, 1);
  }
  free(kept);
  free(rest);
}

/// A copy of the variable's text, which is wiped where /proc/PID/environ would show it.
char* take(const char* name) {
  char* text = getenv(name);
  if (text == nullptr) return nullptr;
  char* copy = strdup(text);
  if (copy == nullptr) abort();  // without its options it would start unrestricted
  memset(text, 0, strlen(text));
  unsetenv(name);
  return copy;
}

int main_with_options(int argc, char** argv, char**) {
  char* options = take(access_key::kServerOptions);
  free(take(access_key::kClientKey));
  stop_preloading();
  if (options == nullptr) return program_main(argc, argv, environ);
  size_t most = static_cast<size_t>(argc) + 2;
  for (const char* at = options; *at != '\0'; ++at) most += *at == '\n';
  char** all = static_cast<char**>(calloc(most, sizeof(char*)));
  if (all == nullptr) abort();
  memcpy(all, argv, static_cast<size_t>(argc) * sizeof(char*));
  char* state = nullptr;
  for (char* item = strtok_r(options, "\n", &state); item != nullptr; item = strtok_r(nullptr, "\n", &state)) {
    all[argc++] = item;
  }
  return program_main(argc, all, environ);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int __libc_start_main(
    Main main, int argc, char** argv, void (*init)(), void (*finish)(), void (*finish_loader)(), void* stack_end) {
  using Start = int (*)(Main, int, char**, void (*)(), void (*)(), void (*)(), void*);
  const auto start = reinterpret_cast<Start>(dlsym(RTLD_NEXT, "__libc_start_main"));
  if (argc > 0 && strcmp(base_name(argv[0]), kProgram) == 0) {
    program_main = main;
    main = main_with_options;
  }
  return start(main, argc, argv, init, finish, finish_loader, stack_end);
}
