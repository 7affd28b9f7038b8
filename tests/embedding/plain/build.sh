#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# A program that is one line of a shell: ion on the include path, and Abseil.
set -e

g++ -std=c++20 -Ithird_party/ion app.cc $(pkg-config --cflags --libs absl_statusor) -pthread -o app
