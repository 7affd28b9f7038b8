// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/version.h
//
// The version of these headers, for a program that prints what it was built with. Constants rather
// than macros: there is nothing to switch on before a release exists whose predecessor has users.
// No cost at run time; constants are safe from any thread.
//
// Example:
//   std::printf("ion %d.%d.%d\n", ion::kVersion.major, ion::kVersion.minor, ion::kVersion.patch);

#ifndef ION_ION_VERSION_H_
#define ION_ION_VERSION_H_

namespace ion {

// Semantic versioning (semver.org): with major 0, any minor version may break callers.
struct Version {
  int major;
  int minor;
  int patch;
};

inline constexpr Version kVersion{.major = 0, .minor = 1, .patch = 0};

}  // namespace ion

#endif  // ION_ION_VERSION_H_
