#pragma once

#include <string>

namespace cpp_host {

/// Cores that this process may use: those that it may run on, or fewer if its control group has less CPU time, as a
/// container with a limit has. A part of a core counts as one. `groups` lists the groups of this process, `mount` has
/// their files; both are the kernel's (cgroups(7), cgroup-v2.rst: cpu.max; cgroup-v1: cpu.cfs_quota_us).
int cores(const std::string& groups = "/proc/self/cgroup", const std::string& mount = "/sys/fs/cgroup");

}  // namespace cpp_host
