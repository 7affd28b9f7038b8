# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/flags.bash
#
# The options that our files compile with outside of Bazel, for clang-tidy and editors. Sourced by tools/check and `dev`.
#
#   compiler_flags    prints them, one a line, for the root of the checkout; prints nothing if Bazel cannot load the workspace

compiler_flags() {
  local external
  bazel build --nobuild //... 2>/dev/null || return
  external=$(bazel info output_base 2>/dev/null)/external
  printf '%s\n' -xc++ -std=c++20 -iquote. -Icompat/include \
    "-isystem$external/com_google_absl" \
    "-isystem$external/com_github_google_benchmark/include" \
    "-isystem$external/doctest" \
    "-isystem$external/ion_linux_uapi/include"
  grep -hoE 'ION_HAVE_[A-Z_]+=[01]' "$external"/ion_*/BUILD | sed 's/^/-D/'
  # Those that pkg-config found.
  find "$external"/ion_*/ -maxdepth 1 -name 'include[0-9]*' -printf '-isystem%p\n'
  grep -oE -- '-m[a-z0-9=.-]+' "$external/ion_dpdk/copts.bzl" || true
}
