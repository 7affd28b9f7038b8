# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
"""How code that runs under tests/model/explorer.h is compiled."""

# Optimised in every configuration: a search is minutes long without. Never instrumented: the
# sanitizers' own state does not follow when a search puts a stack back.
MODEL_COPTS = [
    "-O2",
    "-fno-sanitize=all",
]
