# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/tidy.bash
#
# Runs clang-tidy over many files, on all processors. The headers of one folder are one translation unit, because most of the
# time goes into Abseil and the standard library, which each unit reads once. If a unit has a finding, each header that it names
# is looked at alone: that verdict counts. Two checks see the main file of a unit only and so skip headers, whose declarations
# others may use: misc-unused-using-decls and misc-unused-alias-decls.
#
# A file that this machine has found good, in whatever checkout, is looked at again only after a change of something that the
# verdict depends on: the file, all that it includes, clang-tidy, its configuration or its flags. Sourced by tools/check.
#
#   tidy FILE…    prints the findings of clang-tidy, and fails if there is one; the array flags is the options that FILE compiles with

readonly tidy_cache=${ION_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ion}/tidy
readonly tidy_kept_days=30

# Prints the configuration that clang-tidy finds for a file.
tidy_config() { case $1 in tests/*) echo tests/.clang-tidy ;; *) echo .clang-tidy ;; esac }

# Prints the sum of all that the verdict on FILE depends on, and FILE; - for a file that does not compile.
tidy_key() {
  local file=$1 inputs key=-
  set -o pipefail
  # shellcheck disable=SC2086 # Both are words.
  if inputs=$(clang++ -M $tidy_flags "$file" 2>/dev/null | sed -e 's/^[^ ]*: //' -e 's/\\$//'); then
    key=$({ echo "$tidy_environment $file" && sha256sum $inputs | cut -d ' ' -f 1; } | sha256sum | cut -d ' ' -f 1) || key=-
  fi
  echo "$key $file"
}

# tidy_remember KEY FILE: the file is good, unless somebody edited it meanwhile.
tidy_remember() { [[ $1 == - || $(tidy_key "$2") != "$1 $2" ]] || : >"$tidy_cache/$1"; }

# tidy_file KEY FILE
tidy_file() {
  local output
  # shellcheck disable=SC2086 # Words.
  output=$(clang-tidy --quiet "$2" -- $tidy_flags 2>&1) || {
    printf '%s\ncheck: %s: mend what clang-tidy says above\n' "$output" "$2"
    return 1
  }
  tidy_remember "$1" "$2"
}

# tidy_headers UNIT KEY FILE…: the headers of one folder; UNIT is the file to write that includes them.
tidy_headers() {
  local unit=$1 output='' good=0 status=0 names i
  shift
  local pairs=("$@")
  for ((i = 1; i < $#; i += 2)); do printf '#include "%s"\n' "${pairs[i]}"; done >"$unit"
  names=$(for ((i = 1; i < $#; i += 2)); do echo "${pairs[i]}"; done | sed 's/[.+]/\\&/g' | paste -sd '|')
  # shellcheck disable=SC2086 # Words.
  output=$(clang-tidy --quiet "$unit" --config-file="$(tidy_config "$2")" "--header-filter=(^|/)($names)\$" -- $tidy_flags 2>&1) && good=1
  # After an error of the compiler the rest of the unit was not read.
  [[ $output != *'[clang-diagnostic-error]'* ]] || output=''
  for ((i = 0; i < $#; i += 2)); do
    if ((good)) || [[ -n $output && $output != *"${pairs[i + 1]}:"* ]]; then
      tidy_remember "${pairs[@]:i:2}"
    else
      tidy_file "${pairs[@]:i:2}" || status=1
    fi
  done
  return "$status"
}

# tidy_unit LIST TOTAL: runs beside others, so that its output comes in one piece. LIST holds a line for each file: key, name.
tidy_unit() {
  local list=$1 total=$2 pairs
  read -r -d '' -a pairs < <(sort -k 2 "$list") || :
  if ((${#pairs[@]} == 2)); then
    echo "clang-tidy ${list##*/}/$total ${pairs[1]}"
    tidy_file "${pairs[@]}"
  else
    echo "clang-tidy ${list##*/}/$total $((${#pairs[@]} / 2)) headers of ${pairs[1]%/*}"
    tidy_headers "$list.cc" "${pairs[@]}"
  fi
}

tidy() {
  local tidy_flags=${flags[*]} tidy_environment lists status=0 known=() key file unit units=0
  local -A unit_of=()
  mkdir -p "$tidy_cache"
  find "$tidy_cache" -type f -mtime "+$tidy_kept_days" -delete
  # Bazel's directories of others' headers differ between checkouts.
  tidy_environment=$({ clang-tidy --version && cat .clang-tidy tests/.clang-tidy && sed 's|[^ ]*/external/||g' <<<"$tidy_flags"; } | sha256sum)
  export tidy_cache tidy_flags tidy_environment
  export -f tidy_config tidy_key tidy_remember tidy_file tidy_headers tidy_unit
  lists=$(mktemp -d)
  while read -r key file; do
    if [[ -e $tidy_cache/$key ]]; then
      known+=("$tidy_cache/$key")
      continue
    fi
    # A header is in the unit of its folder; a source file, or a header that does not compile, is a unit of its own.
    unit=$file
    [[ $file != *.h || $key == - ]] || unit=${file%/*}/
    [[ -n ${unit_of[$unit]:-} ]] || unit_of[$unit]=$((++units))
    echo "$key $file" >>"$lists/${unit_of[$unit]}"
  done < <(printf '%s\0' "$@" | xargs -0 -r -n 1 -P "$(nproc)" bash -c 'tidy_key "$@"' tidy_key)
  ((${#known[@]} == 0)) || touch "${known[@]}"
  echo "clang-tidy: ${#known[@]} of $# files were found good before"
  seq "$units" | xargs -r -n 1 -P "$(nproc)" bash -c 'tidy_unit "$0/$2" "$1"' "$lists" "$units" || status=1
  rm -r "$lists"
  return "$status"
}
