// Checksums of a deployed model's files.
#pragma once

#include <string>

namespace cpp_host {

// The file in a version's folder that lists the SHA-256 of the others, as sha256sum writes it.
constexpr char kChecksums[] = "SHA256SUMS";

// Compares the files of a version's folder with its list; a folder without a list is only logged. Throws Failure, which
// names the file, if one is missing or another than it was.
void require_unchanged(const std::string& version_folder);

}  // namespace cpp_host
