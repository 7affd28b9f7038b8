#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# A program that takes the installed ion by pkg-config.
set -e

g++ -std=c++20 app.cc $(pkg-config --cflags --libs ion) -o app
