# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
"""What ion builds with, all of it from Debian packages.

An embedding workspace calls ion_deps() after its own repositories: one that it already has, under the same name, is
kept. Only @com_google_absl reaches the public headers; the rest is for tests, benchmarks and Bazel itself.
"""

load(
    "//third_party:repositories.bzl",
    "coverage_stub",
    "debian_platforms",
    "debian_source",
    "installed_directory",
    "linux_uapi",
    "png",
    "rules_cc_shim",
)

def _maybe(rule, name, **kwargs):
    if not native.existing_rule(name):
        rule(name = name, **kwargs)

def ion_deps():
    """Declares each repository that the workspace does not have yet."""
    _maybe(debian_source, "com_google_absl", package = "abseil")
    _maybe(debian_source, "com_github_google_benchmark", package = "benchmark")
    _maybe(debian_source, "doctest", package = "doctest")
    _maybe(linux_uapi, "ion_linux_uapi", headers = ["dma-buf", "dma-heap", "udmabuf"])
    _maybe(png, "ion_png")
    _maybe(debian_platforms, "platforms")
    _maybe(rules_cc_shim, "rules_cc")
    _maybe(coverage_stub, "remote_coverage_tools")
    _maybe(
        installed_directory,
        "bazel_skylib",
        path = "/usr/share/bazel/tools/skylib",
        package = "bazel-skylib",
    )
    _maybe(
        installed_directory,
        "rules_java",
        path = "/usr/share/bazel/rules/java",
        package = "bazel-rules-java",
    )
    _maybe(
        installed_directory,
        "rules_proto",
        path = "/usr/share/bazel/rules/proto",
        package = "bazel-rules-proto",
    )
