# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/lists.bash
#
# The lists of ion/linked.bzl, which feed every build. Sourced by tools/check and tools/android_bp; the current directory is the
# root of the checkout.
#
#   listed NAME         prints the elements of a list, one a line
#   list_differences    prints a line for each difference between the lists, the tree and Bazel's targets

readonly build_lists=ion/linked.bzl linked_folders=(backends devices platforms policies third_party/ion_uapi)

listed() {
  awk -v begin="$1 = [" '$0 == begin { inside = 1; next } $0 == "]" { inside = 0 } inside && /^ *"/ { gsub(/[ ",]/, ""); print }' \
    "$build_lists"
}

# The headers of the folders, without the old paths if the folder is one that a link leads to.
own_in_tree() { git ls-files --cached --others --exclude-standard -- 'ion/*.h' | sed 's|^ion/||' | sort -u; }
linked_in_tree() {
  git ls-files --cached --others --exclude-standard -- "${linked_folders[@]/%//*.h}" |
    xargs -r -d '\n' grep -sLE '^// Deprecated: include "' | sed 's|^third_party/ion_uapi/|uapi/|' | sort -u
}

# labels ATTRIBUTE: of the library's targets in Bazel. Fails if Bazel cannot load them.
labels() {
  local targets='//ion:* + //backends:* + //devices:* + //platforms:* + //policies:* + //third_party:ion_uapi'
  bazel query "labels($1, kind(cc_library, $targets))" 2>/dev/null
}

# compare LIST OTHER: of two sorted lists, on descriptors 3 and 4.
compare() {
  comm -3 /dev/fd/3 /dev/fd/4 |
    sed -E -e "s|^\t(.*)|$build_lists: $1 lacks \1, which is in $2|" -e t -e "s|^(.*)|$build_lists: $1 has \1, which is not in $2|"
}

list_differences() {
  local headers dependencies
  compare OWN 'the tree' 3< <(listed OWN | sort) 4< <(own_in_tree)
  compare LINKED 'the tree' 3< <(listed LINKED | sort) 4< <(linked_in_tree)
  if ! headers=$(labels hdrs) || ! dependencies=$(labels deps); then
    echo "$build_lists: Bazel does not load the targets of the library: run bazel query //ion:all"
    return
  fi
  compare 'OWN or LINKED' "Bazel's targets" 3< <({ listed OWN && listed LINKED; } | sort) \
    4< <(sed -n 's|^//ion:||p' <<<"$headers" | sort -u)
  compare ABSEIL "Bazel's targets" 3< <(listed ABSEIL | sort) \
    4< <(sed -nE 's|^@+com_google_absl//absl/||p' <<<"$dependencies" | sort -u)
}
