// Prints the cores that a process may use by the control groups that are named: a list of them, and their mount.
#include "cores.h"

#include <cstdio>

int main(int, char** arguments) { std::printf("%d\n", cpp_host::cores(arguments[1], arguments[2])); }
