# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
"""Macros for ion's own BUILD files: headers, tests, programs, and code that must not compile."""

# Our sources only: users compile our headers with their own warnings. Abseil's headers get them too, and g++ reports
# 0x80 as a char in its hash tables (clang's -Wconstant-conversion, which is silent there, still guards ours).
_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-overflow",
]

def _at_root(header):
    """The label of a header below ion/, which has a link to each folder of headers: the name by which all include it."""
    package = native.package_name()
    return header if package == "ion" else "//ion:%s/%s" % (package, header)

def ion_header(name, deps = [], folder = None, header = None, **kwargs):
    """A public header as a library, and a proof that it stands alone.

    Args:
      name: the header's stem; other packages depend on //<package>:<name>.
      deps: one label for each #include that is not the standard library's.
      folder: the folder of the package that it lies in, if it lies in one.
      header: its file, if that is not <name>.h.
      **kwargs: handed to cc_library.
    """
    old_path = header or name + ".h"
    header = (folder + "/" if folder else "") + old_path

    # Until 0.3 it can be included by its old path as well.
    native.cc_library(
        name = name,
        hdrs = [_at_root(header)] + native.glob([old_path] if folder or native.package_name() != "ion" else []),
        visibility = ["//visibility:public"],
        deps = deps,
        **kwargs
    )

    # The second #include fails if the guard does not work.
    package = native.package_name()
    include = '#include \\"%s%s/%s\\"' % ("" if package == "ion" else "ion/", package, header)
    native.genrule(
        name = name + "_alone_cc",
        outs = [name + "_alone.cc"],
        cmd = 'printf "%%s\\n" "%s" "%s" >$@' % (include, include),
    )
    native.cc_library(
        name = name + "_alone",
        srcs = [name + "_alone.cc"],
        copts = _WARNINGS,
        linkstatic = True,
        deps = [":" + name],
    )

def ion_cc_library(name, copts = [], **kwargs):
    """A cc_library under our warnings, for code that tests, benchmarks and examples share."""
    native.cc_library(name = name, copts = _WARNINGS + copts, linkstatic = True, **kwargs)

def ion_cc_binary(name, copts = [], **kwargs):
    """A cc_binary under our warnings."""
    native.cc_binary(name = name, copts = _WARNINGS + copts, **kwargs)

def ion_cc_test(name, srcs, deps = [], copts = [], size = "small", **kwargs):
    """A doctest binary under our warnings; its main() prints the summary line (tests/support/skip.h)."""
    native.cc_test(
        name = name,
        size = size,
        srcs = srcs,
        copts = _WARNINGS + copts,
        linkstatic = True,
        deps = deps + [
            "//tests/support:test_main",
            "@doctest//doctest",
        ],
        **kwargs
    )

def _runfiles_path(path, output_roots):
    """Returns a path of the execution root as seen from the workspace's runfiles."""
    for root in output_roots:
        if path == root:
            return "."
        if path.startswith(root + "/"):
            path = path[len(root) + 1:]
    return "../" + path[len("external/"):] if path.startswith("external/") else path

def _compile_flags_impl(ctx):
    context = cc_common.merge_cc_infos(
        cc_infos = [dep[CcInfo] for dep in ctx.attr.deps],
    ).compilation_context

    roots = [ctx.bin_dir.path, ctx.genfiles_dir.path]
    options = []
    for option, paths in [
        ("-I", context.includes),
        ("-iquote", context.quote_includes),
        ("-isystem", context.system_includes),
    ]:
        options += [option + _runfiles_path(path, roots) for path in paths.to_list()]
    options += ["-D" + define for define in context.defines.to_list()]
    args = ctx.actions.args()
    args.set_param_file_format("multiline")
    args.add_all(options, uniquify = True)
    ctx.actions.write(ctx.outputs.out, args)
    return [DefaultInfo(
        files = depset([ctx.outputs.out]),
        runfiles = ctx.runfiles([ctx.outputs.out], transitive_files = context.headers),
    )]

compile_flags = rule(
    doc = "A file of compiler flags, one a line, and the headers of deps at the paths these flags name.",
    implementation = _compile_flags_impl,
    attrs = {
        "deps": attr.label_list(providers = [CcInfo]),
        "out": attr.output(mandatory = True),
    },
)

def nocompile_test(name, src, deps, size = "medium", **kwargs):
    """A test that code does not compile, and of the sentence that the compiler prints: see tools/nocompile.sh.

    Args:
      name: the test.
      src: a .cc file with `// EXPECT case: sentence` lines and `#if defined(CASE_case)` blocks.
      deps: the libraries whose headers src includes.
      size: handed to sh_test; a case costs about a second with each compiler.
      **kwargs: handed to sh_test.
    """
    flags = name + "_flags.txt"
    compile_flags(
        name = name + "_flags",
        out = flags,
        deps = deps,
        testonly = True,
    )
    native.sh_test(
        name = name,
        size = size,
        srcs = ["//tools:nocompile.sh"],
        tags = ["any_config"],
        args = [
            "$(rootpath %s)" % src,
            "$(rootpath %s)" % flags,
        ],
        data = [
            src,
            flags,
            name + "_flags",
        ],
        **kwargs
    )
