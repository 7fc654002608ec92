// Memory in pages of 2 MiB.
#pragma once

namespace cpp_host {

// Moves the large blocks of this process's allocated memory to huge pages. An engine reads all its weights for every
// batch: with pages of 4 KiB this needs thousands of address translations, in a virtual machine a tenth of the time of
// float32. Does nothing if the kernel is older than 6.1, or its transparent huge pages are off.
void use_huge_pages();

}  // namespace cpp_host
