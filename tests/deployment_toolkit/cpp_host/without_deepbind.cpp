// Preloaded into a server with the sanitized host: sanitizers refuse libraries that are opened with RTLD_DEEPBIND, as
// OpenVINO's thread library is.
#include <dlfcn.h>

extern "C" void* dlopen(const char* file, int mode) {
  static auto* const next = reinterpret_cast<void* (*)(const char*, int)>(dlsym(RTLD_NEXT, "dlopen"));
  return next(file, mode & ~RTLD_DEEPBIND);
}
