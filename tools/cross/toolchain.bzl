# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
"""Debian's cross compilers as toolchains of Bazel's: the packages g++-<triplet>."""

load("@bazel_tools//tools/cpp:unix_cc_toolchain_config.bzl", "cc_toolchain_config")
load("@rules_cc//cc:defs.bzl", "cc_toolchain", "cc_toolchain_suite")

_TOOLS = {
    "ar": "ar",
    "cpp": "cpp",
    "dwp": "dwp",
    "gcc": "gcc",
    "gcov": "gcov",
    "ld": "ld",
    "llvm-cov": "gcov",
    "nm": "nm",
    "objcopy": "objcopy",
    "objdump": "objdump",
    "strip": "strip",
}

def debian_cross_toolchains(name, machines):
    """A suite for --crosstool_top.

    Args:
      name: of the suite.
      machines: from the name of a machine, for --cpu, to the triplet of its compiler.
    """
    native.filegroup(name = name + "_no_files")
    for cpu, triplet in machines.items():
        cc_toolchain_config(
            name = cpu + "_config",
            abi_libc_version = "unknown",
            abi_version = "unknown",
            compiler = "gcc",
            cpu = cpu,
            cxx_builtin_include_directories = [
                "/usr/lib/gcc-cross/" + triplet,
                "/usr/" + triplet + "/include",
                "/usr/include",
            ],
            cxx_flags = ["-std=c++20"],
            host_system_name = "local",
            link_flags = ["-Wl,-z,relro,-z,now"],
            # Last: its functions are what the objects before lack.
            link_libs = [
                "-lstdc++",
                "-lm",
                "-latomic",
            ],
            target_libc = "glibc",
            target_system_name = triplet,
            tool_paths = {tool: "/usr/bin/%s-%s" % (triplet, program) for tool, program in _TOOLS.items()},
            toolchain_identifier = cpu,
            unfiltered_compile_flags = ["-no-canonical-prefixes"],
        )
        cc_toolchain(
            name = cpu,
            all_files = name + "_no_files",
            ar_files = name + "_no_files",
            as_files = name + "_no_files",
            compiler_files = name + "_no_files",
            dwp_files = name + "_no_files",
            linker_files = name + "_no_files",
            objcopy_files = name + "_no_files",
            strip_files = name + "_no_files",
            supports_param_files = True,
            toolchain_config = cpu + "_config",
        )
    cc_toolchain_suite(
        name = name,
        # It has no toolchain for a build that asks for no machine.
        tags = ["manual"],
        toolchains = {cpu: cpu for cpu in machines},
    )
