# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tests/embedding/consumers.bash
#
# The projects of this folder that are built without Bazel, each with first_example.cc as its app.cc. Sourced by `run`, which
# provides root and count.bash.
#
#   build_consumers SCRATCH    builds and runs each, two at a time; counts it, as skipped if a tool is not installed
#   check_readme               counts one case: the lines of README.md's "In your build", and of its first example, are theirs

# A link instead of a copy: what a build writes goes into its own directory.
project() {
  cp -r "$root/tests/embedding/$1" "$scratch/$1"
  cp "$root/tests/embedding/first_example.cc" "$scratch/$1/app.cc"
  cd "$scratch/$1" || exit
}

with_ion_in() { mkdir -p "$1" && ln -sT "$root" "$1/ion"; }

cmake_build() { cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE= "$@" && cmake --build build && ./build/app; }

build_cmake_subdirectory() {
  with_ion_in third_party
  cmake_build
}

build_cmake_fetch() {
  with_ion_in third_party
  cmake_build
}

# Installs, and looks that nothing leads back to the checkout, which a package cannot have.
build_cmake_package() {
  cmake -S "$root" -B ion-build -G Ninja -DION_TESTS=OFF
  cmake --install ion-build --prefix "$PWD/prefix"
  [[ -z $(find prefix -type l) ]] && ! grep -r -- "$root" prefix
  cmake_build -DCMAKE_PREFIX_PATH="$PWD/prefix"
}

build_meson() {
  with_ion_in subprojects
  meson setup --buildtype=plain build
  meson compile -C build
  ./build/app
}

# Meson's install, which has to be the same as CMake's.
build_pkg_config() {
  meson setup --prefix "$PWD/prefix" ion-build "$root"
  meson install -C ion-build
  cmake -S "$root" -B ion-cmake -G Ninja -DION_TESTS=OFF
  cmake --install ion-cmake --prefix "$PWD/cmake-prefix"
  rm -r cmake-prefix/share/cmake
  diff -r prefix cmake-prefix
  PKG_CONFIG_PATH=$PWD/prefix/share/pkgconfig ./build.sh
  ./app
}

build_plain() {
  with_ion_in third_party
  ./build.sh
  ./app
}

# missing_for CONSUMER: the packages that it lacks.
missing_for() {
  local tool
  local -A tools=([cmake_subdirectory]='cmake ninja' [cmake_fetch]='cmake ninja' [cmake_package]='cmake ninja' [meson]='meson ninja'
    [pkg_config]='cmake meson ninja' [plain]='')
  for tool in g++ pkg-config ${tools[$1]}; do command -v "$tool" >/dev/null || echo "$tool"; done
  pkg-config --exists absl_status 2>/dev/null || echo libabsl-dev
}

readonly consumers=(cmake_subdirectory cmake_fetch cmake_package meson pkg_config plain)

# build_consumer NAME: its output goes into a log, its end into a file beside that.
build_consumer() {
  local log=$scratch/$1.log missing
  missing=$(missing_for "$1" | paste -sd ' ')
  if [[ -n $missing ]]; then
    printf 'skipped: embedding by %s -- not installed: %s\n0 passed, 0 failed, 1 skipped\n' "$1" "$missing" >"$log"
  else
    # In a shell of its own, as the status of a command behind `||` ends nothing.
    bash -euo pipefail -c '. "$root/tests/embedding/consumers.bash"; project "$1"; "build_$1"' build "$1" >"$log" 2>&1 ||
      echo "exited with $?" >"$scratch/$1.end"
  fi
}

build_consumers() {
  local name
  scratch=$1
  export root scratch
  export -f build_consumer missing_for
  # shellcheck disable=SC2016  # The inner shell expands it.
  printf '%s\n' "${consumers[@]}" | xargs -P 2 -n 1 bash -c 'build_consumer "$1"' build
  begin_part
  for name in "${consumers[@]}"; do
    count_test "$name" "$(cat "$scratch/$name.end" 2>/dev/null || echo passed)" "$scratch/$name.log"
  done
  end_part consumers
}

# Lines without the blanks at their ends, and with one for several.
one_blank() { sed -E -e 's/[[:space:]]+/ /g' -e 's/^ //' -e 's/ $//' | grep . | sort -u; }

quoted_lines() {
  awk '
    /^## / { section = $0 }
    /^```/ { inside = !inside; blocks += inside; next }
    inside && (blocks == 1 || section == "## In your build")
  ' "$root/README.md" | one_blank
}

check_readme() {
  local strange
  begin_part
  strange=$(comm -23 <(quoted_lines) <(find "$root/tests/embedding" -type f -exec cat {} + | one_blank))
  if [[ -z $strange ]]; then add 1 0 0; else count_failure README.md "these lines are of no project in tests/embedding: $strange"; fi
  end_part README
}
