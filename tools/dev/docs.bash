# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/docs.bash
#
# ./dev docs: makes a site of the headers and the pages, in the cache. A warning of Doxygen is a failure. Sourced by `dev`.

readonly docs_packages=(doxygen)

docs_command() {
  local directory=$root_cache/docs log=$scratch/docs.log status=0
  (($# == 0)) || die "$status_usage" "docs takes no arguments"
  need_packages "${docs_packages[@]}" || exit
  cd "$root" || exit
  rm -rf "$directory"
  mkdir -p "$directory"
  {
    cat docs/Doxyfile
    printf 'OUTPUT_DIRECTORY = "%s"\nUSE_MDFILE_AS_MAINPAGE = "%s"\n' "$directory" "$root/README.md"
  } >"$scratch/Doxyfile"
  phase 'write the site' "$log" doxygen "$scratch/Doxyfile" || status=$?
  ((status == 0)) || {
    LC_ALL=C sort -u "$log" | sed "s,^$root/,," >&2
    die "$status_failed" "doxygen has found something: each line above has its file"
  }
  echo "$directory/html/index.html"
}
