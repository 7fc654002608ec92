// Gives a program options that must not stand in its command line, which every user of the host can read. They are
// taken from an environment variable, one on a line; the processes that the program starts inherit neither it nor this
// library. It takes nothing but the C library, and of that old functions, since a container may have another one.

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace {

using Main = int (*)(int, char**, char**);

constexpr const char* kPrograms[] = {"tritonserver", "perf_analyzer"};
constexpr char kOptions[] = "WIDE_DEEP_PRIVATE_OPTIONS";
constexpr char kLibrary[] = "libprivate_options.so";
constexpr char kPreload[] = "LD_PRELOAD";

Main program_main = nullptr;

const char* base_name(const char* path) {
  const char* slash = strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

bool is_meant(const char* program) {
  for (const char* name : kPrograms) {
    if (strcmp(base_name(program), name) == 0) return true;
  }
  return false;
}

/// Memory is not to be had: without its options the program would not be what was asked for.
template <typename Pointer>
Pointer need(Pointer pointer) {
  if (pointer == nullptr) abort();
  return pointer;
}

void stop_preloading() {
  const char* preloaded = getenv(kPreload);
  if (preloaded == nullptr) return;
  char* rest = need(strdup(preloaded));
  char* kept = need(static_cast<char*>(calloc(strlen(preloaded) + 2, 1)));
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

/// A copy of the variable's text, which is wiped where /proc/PID/environ would show it; null without the variable.
char* take_options() {
  char* text = getenv(kOptions);
  if (text == nullptr) return nullptr;
  char* copy = need(strdup(text));
  memset(text, '*', strlen(text));  // zeros would end the list for who reads it
  unsetenv(kOptions);
  return copy;
}

int main_with_options(int argc, char** argv, char**) {
  char* options = take_options();
  stop_preloading();
  if (options == nullptr) return program_main(argc, argv, environ);
  size_t most = static_cast<size_t>(argc) + 2;
  for (const char* at = options; *at != '\0'; ++at) most += *at == '\n';
  char** all = need(static_cast<char**>(calloc(most, sizeof(char*))));
  memcpy(all, argv, static_cast<size_t>(argc) * sizeof(char*));
  char* state = nullptr;
  for (char* item = strtok_r(options, "\n", &state); item != nullptr; item = strtok_r(nullptr, "\n", &state)) {
    all[argc++] = item;
  }
  return program_main(argc, all, environ);
}

}  // namespace

/// What every program calls first, with its own main.
extern "C" __attribute__((visibility("default"))) int __libc_start_main(
    Main main, int argc, char** argv, void (*init)(), void (*finish)(), void (*finish_loader)(), void* stack_end) {
  using Start = int (*)(Main, int, char**, void (*)(), void (*)(), void (*)(), void*);
  const auto start = reinterpret_cast<Start>(dlsym(RTLD_NEXT, "__libc_start_main"));
  if (argc > 0 && is_meant(argv[0])) {
    program_main = main;
    main = main_with_options;
  }
  return start(main, argc, argv, init, finish, finish_loader, stack_end);
}
