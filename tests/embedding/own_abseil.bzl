# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
"""The Abseil of this project, which is not ion's: a copy that can be told from it."""

def _own_abseil_impl(ctx):
    sources = ctx.path(ctx.attr.sources).dirname
    script = 'cp -rL "$1/." . && echo "#define EMBEDDING_OWN_ABSEIL 1" >>absl/base/options.h'
    result = ctx.execute(["sh", "-c", script, "sh", sources])
    if result.return_code != 0:
        fail(result.stderr)

own_abseil = repository_rule(
    implementation = _own_abseil_impl,
    attrs = {"sources": attr.label(mandatory = True, doc = "The WORKSPACE file of Abseil's sources.")},
)
