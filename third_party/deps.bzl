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
    "dpdk",
    "installed_directory",
    "linux_uapi",
    "pkg_config_library",
    "rules_cc_shim",
    "system_library",
)

def _maybe(rule, name, **kwargs):
    if not native.existing_rule(name):
        rule(name = name, **kwargs)

def _declare(rule, name, **kwargs):
    rule(name = name, **kwargs)

def system_repositories(declare = _declare):
    """Declares what the system has: libraries that tests, benchmarks and examples use if they are there.

    Args:
      declare: a function of a rule, a name and the rule's arguments.
    """
    declare(linux_uapi, "ion_linux_uapi", headers = ["dma-buf", "dma-heap", "udmabuf"])
    declare(
        system_library,
        "ion_png",
        library = "png",
        header = "/usr/include/png.h",
        define = "ION_HAVE_PNG",
        linkopts = ["-lpng", "-lz", "-lm"],
    )
    declare(
        system_library,
        "ion_boost_lockfree",
        library = "boost_lockfree",
        header = "/usr/include/boost/lockfree/stack.hpp",
        define = "ION_HAVE_BOOST_LOCKFREE",
    )
    declare(
        system_library,
        "ion_concurrentqueue",
        library = "concurrentqueue",
        header = "/usr/include/concurrentqueue/concurrentqueue.h",
        define = "ION_HAVE_CONCURRENTQUEUE",
    )
    declare(
        system_library,
        "ion_nlohmann_json",
        library = "nlohmann_json",
        header = "/usr/include/nlohmann/json.hpp",
        define = "ION_HAVE_NLOHMANN_JSON",
    )
    declare(dpdk, "ion_dpdk")
    declare(
        pkg_config_library,
        "ion_libavutil",
        library = "libavutil",
        package = "libavutil",
        define = "ION_HAVE_LIBAVUTIL",
    )
    declare(
        pkg_config_library,
        "ion_gstreamer_video",
        library = "gstreamer_video",
        package = "gstreamer-video-1.0",
        define = "ION_HAVE_GSTREAMER_VIDEO",
        include_ends = ["/gstreamer-1.0", "/glib-2.0", "/glib-2.0/include"],
    )
    declare(
        system_library,
        "ion_libdrm",
        library = "libdrm",
        header = "/usr/include/libdrm/drm_fourcc.h",
        define = "ION_HAVE_LIBDRM",
    )
    declare(
        pkg_config_library,
        "ion_gstreamer",
        library = "gstreamer",
        package = "gstreamer-1.0",
        define = "ION_HAVE_GSTREAMER",
        include_ends = ["/gstreamer-1.0", "/glib-2.0", "/glib-2.0/include"],
    )

def ion_deps():
    """Declares each repository that the workspace does not have yet."""
    _maybe(debian_source, "com_google_absl", package = "abseil")
    _maybe(debian_source, "com_github_google_benchmark", package = "benchmark")
    _maybe(debian_source, "doctest", package = "doctest")
    system_repositories(_maybe)
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
