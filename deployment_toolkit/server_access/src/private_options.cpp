// Gives a program options that must not be on its command line, which every user of the host can read. They come from
// an environment variable, one per line; the program's child processes inherit neither the variable nor this library.
// What the program and its children make, as shared memory, is closed to other users.
// The library needs only old functions of the C library, since a container may have another version of it.

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

using Main = int (*)(int, char**, char**);

constexpr const char* kPrograms[] = {"tritonserver", "perf_analyzer"};
constexpr char kOptions[] = "WIDE_DEEP_PRIVATE_OPTIONS";
constexpr char kLibrary[] = "libprivate_options.so";
constexpr char kPreload[] = "LD_PRELOAD";

// Shared memory of Triton's Python backend, with every request in it, is a file that others could read.
constexpr mode_t kOthers = S_IRWXG | S_IRWXO;

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

/// Aborts if memory can't be allocated: the program must not run without its options.
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

/// Copy of the variable's text; the original, which /proc/PID/environ shows, is wiped. Null without the variable.
char* take_options() {
  char* text = getenv(kOptions);
  if (text == nullptr) return nullptr;
  char* copy = need(strdup(text));
  memset(text, '*', strlen(text));  // zeros would end the list of variables for its readers
  unsetenv(kOptions);
  return copy;
}

int main_with_options(int argc, char** argv, char**) {
  umask(kOthers);
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

/// Boost, in the Python backend, sets the mode of shared memory again, past the umask.
extern "C" __attribute__((visibility("default"))) int fchmod(int file, mode_t mode) {
  if (program_main != nullptr) mode &= ~kOthers;
  return static_cast<int>(syscall(SYS_fchmod, file, mode));
}

/// First function that every program calls, with its main as an argument.
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
