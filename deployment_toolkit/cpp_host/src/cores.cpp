#include "cores.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <vector>

namespace cpp_host {
namespace {

int cores_to_run_on() {
  cpu_set_t usable;
  return sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 1;
}

/// Cores' worth of CPU time; endless if nothing can be read or there is no limit, which is "max" or -1.
double worth(std::istream& quota, std::istream& period) {
  double quota_us = 0, period_us = 0;
  const bool is_limited = (quota >> quota_us) && (period >> period_us) && quota_us > 0 && period_us > 0;
  return is_limited ? quota_us / period_us : std::numeric_limits<double>::infinity();
}

double limit_in(const std::string& folder, bool is_unified) {
  if (is_unified) {
    std::ifstream most(folder + "/cpu.max");
    return worth(most, most);
  }
  std::ifstream quota(folder + "/cpu.cfs_quota_us"), period(folder + "/cpu.cfs_period_us");
  return worth(quota, period);
}

bool has_cpu(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

}  // namespace

int cores(const std::string& groups, const std::string& mount) {
  double most = cores_to_run_on();
  std::ifstream list(groups);
  for (std::string line; std::getline(list, line);) {  // number:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    const bool is_unified = controllers.empty();
    if (!is_unified && !has_cpu(controllers)) continue;
    std::vector<std::string> tops{mount};
    if (!is_unified) tops = {mount + "/" + controllers, mount + "/cpu"};
    for (const std::string& top : tops) {  // in a container the group's files are at the top, whatever its path
      most = std::min({most, limit_in(top + path, is_unified), limit_in(top, is_unified)});
    }
  }
  return std::max(1, static_cast<int>(std::ceil(most)));
}

}  // namespace cpp_host
