# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
"""Repository rules: what Debian provides, under the names that upstream uses.

Labels here are relative to this file, so the rules work in an embedding workspace too; a local_repository with a
relative path would be looked up in the embedding workspace.
"""

def _cache_directory(environ):
    if environ.get("ION_CACHE"):
        return environ["ION_CACHE"]
    if environ.get("XDG_CACHE_HOME"):
        return environ["XDG_CACHE_HOME"] + "/ion"
    if environ.get("HOME"):
        return environ["HOME"] + "/.cache/ion"
    fail("No place to keep source packages: set ION_CACHE to a directory that can be written, or set HOME.")

def _debian_source_impl(ctx):
    result = ctx.execute(
        ["bash", ctx.path(ctx.attr._script), ctx.attr.package, _cache_directory(ctx.os.environ)],
    )
    if result.return_code != 0:
        fail("@%s, Debian source package '%s':\n%s" % (ctx.name, ctx.attr.package, result.stderr))

debian_source = repository_rule(
    doc = "A Debian source package, built by the BUILD files it brings.",
    implementation = _debian_source_impl,
    attrs = {
        "package": attr.string(mandatory = True),
        "_script": attr.label(default = "//third_party:debian_source.sh"),
    },
    environ = ["ION_CACHE", "XDG_CACHE_HOME", "HOME"],
)

def _require(ctx, path, package):
    found = ctx.path(path)
    if not found.exists:
        fail("@%s: %s is missing: install the Debian package '%s'." % (ctx.name, path, package))
    return found

def _installed_directory_impl(ctx):
    for child in _require(ctx, ctx.attr.path, ctx.attr.package).readdir():
        ctx.symlink(child, child.basename)

installed_directory = repository_rule(
    doc = "A directory of Bazel rules that a Debian package installs.",
    implementation = _installed_directory_impl,
    attrs = {
        "package": attr.string(mandatory = True),
        "path": attr.string(mandatory = True),
    },
)

# Abseil's BUILD files name these; Debian's platforms are older than WebAssembly's.
_MISSING_PLATFORMS = {
    "cpu": ["wasm32", "wasm64"],
    "os": ["wasi"],
}

def _debian_platforms_impl(ctx):
    root = _require(ctx, "/usr/share/bazel/platforms", "bazel-platforms")
    ctx.symlink(root.get_child("BUILD"), "BUILD")
    for setting, names in _MISSING_PLATFORMS.items():
        build = ctx.read(root.get_child(setting).get_child("BUILD"))
        for name in names:
            if '"%s"' % name not in build:
                build += '\nconstraint_value(name = "%s", constraint_setting = ":%s")\n' % (name, setting)
        ctx.file(setting + "/BUILD", build, executable = False)

debian_platforms = repository_rule(
    doc = "Debian's @platforms and the constraint values that Abseil wants.",
    implementation = _debian_platforms_impl,
)

def _rules_cc_shim_impl(ctx):
    ctx.file("cc/BUILD", executable = False)
    ctx.symlink(ctx.attr._defs, "cc/defs.bzl")

rules_cc_shim = repository_rule(
    doc = "@rules_cc that hands on the native rules: Debian's does not load under Debian's Bazel.",
    implementation = _rules_cc_shim_impl,
    attrs = {"_defs": attr.label(default = "//third_party:rules_cc_defs.bzl")},
)

def _coverage_stub_impl(ctx):
    ctx.file("BUILD", """filegroup(
    name = "coverage_report_generator",
    visibility = ["//visibility:public"],
)
""", executable = False)

coverage_stub = repository_rule(
    doc = "Every cc_test depends on a coverage tool that Bazel would download; this one is empty.",
    implementation = _coverage_stub_impl,
)

def _linux_uapi_impl(ctx):
    headers = ["linux/%s.h" % name for name in ctx.attr.headers]
    for header in headers:
        ctx.symlink(_require(ctx, "/usr/include/" + header, "linux-libc-dev"), "include/" + header)
    ctx.file("BUILD", """cc_library(
    name = "linux_uapi",
    hdrs = %s,
    includes = ["include"],
    visibility = ["//visibility:public"],
)
""" % ["include/" + header for header in headers], executable = False)

linux_uapi = repository_rule(
    doc = "Single kernel headers as declared inputs: all of /usr/include on the include path breaks #include_next.",
    implementation = _linux_uapi_impl,
    attrs = {"headers": attr.string_list(mandatory = True)},
)

def _system_library_impl(ctx):
    have = ctx.path(ctx.attr.header).exists
    ctx.file("BUILD", """cc_library(
    name = "%s",
    defines = ["%s=%d"],
    linkopts = %s,
    visibility = ["//visibility:public"],
)
""" % (ctx.attr.library, ctx.attr.define, int(have), ctx.attr.linkopts if have else []), executable = False)

system_library = repository_rule(
    doc = "A library of the system, found on the default paths; its define is 0 where it is not installed.",
    implementation = _system_library_impl,
    attrs = {
        "define": attr.string(mandatory = True),
        "header": attr.string(mandatory = True),
        "library": attr.string(mandatory = True),
        "linkopts": attr.string_list(),
    },
    local = True,
    configure = True,
)

def _pkg_config(ctx, *args):
    """The words that pkg-config prints, or None."""
    result = ctx.execute(["pkg-config"] + list(args))
    return result.stdout.split(" ") if result.return_code == 0 else None

def _pkg_config_library_impl(ctx):
    package = ctx.attr.package
    flags = _pkg_config(ctx, "--cflags", package) if ctx.which("pkg-config") else None
    libs = _pkg_config(ctx, "--libs", package) if flags != None else None
    includes = []
    for flag in flags or []:
        # The others are default paths, or those of libraries whose headers are not included.
        if flag.startswith("-I") and any([flag.strip().endswith(end) for end in ctx.attr.include_ends]):
            include = "include%d" % len(includes)
            ctx.symlink(flag[len("-I"):].strip(), include)
            includes.append(include)
    ctx.file("BUILD", """cc_library(
    name = "%s",
    hdrs = glob(["include*/**/*.h"]),
    defines = ["%s=%d"],
    includes = %s,
    linkopts = %s,
    visibility = ["//visibility:public"],
)
""" % (
        ctx.attr.library,
        ctx.attr.define,
        int(libs != None),
        includes,
        [flag.strip() for flag in libs or [] if flag.startswith("-l")],
    ), executable = False)

pkg_config_library = repository_rule(
    doc = "A shared library that pkg-config finds; its define is 0 if it or pkg-config is not installed.",
    implementation = _pkg_config_library_impl,
    attrs = {
        "define": attr.string(mandatory = True),
        "include_ends": attr.string_list(doc = "the ends of the include directories to hand on"),
        "library": attr.string(mandatory = True),
        "package": attr.string(mandatory = True, doc = "the name of the .pc file"),
    },
    local = True,
    configure = True,
)

# The pool of rte_mempool is a plugin: nothing refers to it by name.
_DPDK_LINKOPTS = [
    "-lrte_eal",
    "-lrte_mempool",
    "-Wl,--no-as-needed",
    "-lrte_mempool_ring",
    "-Wl,--as-needed",
]

def _dpdk_impl(ctx):
    flags = _pkg_config(ctx, "--cflags", "libdpdk") if ctx.which("pkg-config") else None
    includes = []
    for flag in flags or []:
        # Of what its headers may need, those of other libraries stay on the default paths.
        if flag.startswith("-I") and flag.strip().endswith("/dpdk"):
            include = "include%d" % len(includes)
            ctx.symlink(flag[len("-I"):].strip(), include)
            includes.append(include)
    ctx.file("copts.bzl", "DPDK_COPTS = %s\n" % [
        flag.strip()
        for flag in flags or []
        if flag.startswith("-m")
    ], executable = False)
    ctx.file("BUILD", """cc_library(
    name = "dpdk",
    hdrs = glob(["include*/**/*.h"]),
    defines = ["ION_HAVE_DPDK=%d"],
    includes = %s,
    linkopts = %s,
    visibility = ["//visibility:public"],
)
""" % (int(flags != None), includes, _DPDK_LINKOPTS if flags != None else []), executable = False)

dpdk = repository_rule(
    doc = """DPDK's mempool, found by pkg-config; ION_HAVE_DPDK is 0 where libdpdk-dev is not installed. What includes its
headers is compiled with the DPDK_COPTS of copts.bzl: they do not compile for the oldest processor.""",
    implementation = _dpdk_impl,
    local = True,
    configure = True,
)
