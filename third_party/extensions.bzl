# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
"""What the system has, for MODULE.bazel: the same repositories as ion_deps() declares for a WORKSPACE."""

load("//third_party:deps.bzl", "system_repositories")

def _system_impl(_ctx):
    system_repositories()

system = module_extension(implementation = _system_impl)
