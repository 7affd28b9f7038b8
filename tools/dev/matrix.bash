# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/matrix.bash
#
# ./dev matrix: every public header, and the uses of tests/builds/use.cc, compiled without a warning by the compilers of
# several suites of Debian (matrix.tsv), each with its suite's Abseil, in the roots of roots.bash. Fills the table of README.md.
# Sourced by `dev`.

readonly matrix_list=$root/tools/dev/matrix.tsv
# Two at once: a build takes up to 1 GiB.
readonly matrix_jobs=2
readonly matrix_columns=(20 20-bare 20-m32 20-lto 23 23-bare 23-m32 23-lto)
readonly matrix_warnings=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Werror)
readonly matrix_begin='<!-- ./dev matrix fills this table -->' matrix_end='<!-- the end of that table -->'

# Prints the rows whose first three columns, with blanks between them, match the pattern.
matrix_rows() { awk -F '\t' -v pattern="$1" '!/^#/ && $1 " " $2 " " $3 ~ pattern' "$matrix_list"; }

# Writes the two sources into the scratch directory: all headers, and those with their uses.
make_matrix_sources() {
  (cd "$root" && find -L ion -name '*.h' | LC_ALL=C sort | sed 's/.*/#include "&"/') >"$scratch/headers.cc"
  [[ $(wc -l <"$scratch/headers.cc") -gt 50 ]] || die "$status_failed" "no headers were found: ion/ has links to backends/, devices/, platforms/ and policies/"
  cat "$scratch/headers.cc" "$root/tests/builds/use.cc" >"$scratch/unit.cc"
}

# matrix_flags COMPILER LIBRARY BUILD: prints the command of a build, one word a line. Abseil's warnings are not ours.
matrix_command_of() {
  local compiler=$1 library=$2 build=$3
  if [[ $compiler == clang-* ]]; then echo "clang++-${compiler#clang-}"; else echo "$compiler"; fi
  if [[ $build == 23* ]]; then echo -std=c++2b; else echo -std=c++20; fi
  printf '%s\n' "${matrix_warnings[@]}" -fmessage-length=0 -I.
  [[ $library == libstdc++ ]] || printf '%s\n' -nostdinc++ "-isystem/usr/lib/llvm-${library##*-}/include/c++/v1"
  case $build in
    *-bare) printf '%s\n' -fsyntax-only -fno-exceptions -fno-rtti ;;
    # The kernel's headers for x86 are in the directory of the 64-bit ones.
    *-m32) printf '%s\n' -fsyntax-only -m32 -D_FILE_OFFSET_BITS=64 "-isystem/usr/include/$(gcc -print-multiarch)" ;;
    *-lto)
      printf '%s\n' -O2 -flto=auto -fPIC -shared -o/dev/null /mnt/scratch/headers.cc
      [[ $compiler != clang-* ]] || echo -fuse-ld=lld
      ;;
    *) echo -fsyntax-only ;;
  esac
  echo /mnt/scratch/unit.cc
}

# Builds one, and leaves what it said in NUMBER.log and `ok` or `FAILED` in NUMBER.result.
matrix_build() {
  local number=$1 compiler=$2 library=$3 suite=$4 build=$5 result=ok words
  mapfile -t words < <(matrix_command_of "$compiler" "$library" "$build")
  in_root "$suite" "${words[@]}" </dev/null >"$scratch/matrix/$number.log" 2>&1 || result=FAILED
  echo "$result" >"$scratch/matrix/$number.result"
  echo "$compiler $library $build: $result"
}

# Builds those of the file todo: NUMBER COMPILER LIBRARY SUITE BUILD.
matrix_builds() {
  local running=0 words
  set +m
  while read -ra words; do
    ((running < matrix_jobs)) || { wait -n && running=$((running - 1)); }
    matrix_build "${words[@]}" &
    running=$((running + 1))
  done <"$scratch/matrix/todo"
  wait
}

# Sets matrix_refusal to why the packages of a row cannot be had, or to nothing.
find_matrix_packages() {
  local suite=$1 package
  shift
  matrix_refusal=''
  need_root "$suite" || matrix_refusal=$root_refusal
  for package in "$@"; do
    [[ -n $matrix_refusal ]] || root_offers "$suite" "$package" || matrix_refusal="Debian's $suite has no package $package"
  done
  [[ -n $matrix_refusal ]] || need_root "$suite" "$@" || matrix_refusal=$root_refusal
}

# Prints the release of the Abseil of a suite's root.
matrix_abseil() { dpkg-query --admindir="$(root_of "$1")/var/lib/dpkg" -W -f '${Version}\n' libabsl-dev 2>/dev/null | cut -d . -f 1; }

# matrix_line COMPILER LIBRARY SUITE ABSEIL BUILD=RESULT…: a row of the table.
matrix_line() {
  local line="| $1 | $2 | $3 | $4 |" column pair cell
  shift 4
  for column in "${matrix_columns[@]}"; do
    cell=''
    for pair in "$@"; do [[ ${pair%%=*} != "$column" ]] || cell=${pair#*=}; done
    line+=" $cell |"
  done
  echo "$line"
}

# The table of README.md, its two lines of a head excepted.
matrix_table() { awk -v begin="$matrix_begin" -v end="$matrix_end" '$0 == end { exit } inside && /^\|/ && ++n > 2; $0 == begin { inside = 1 }' "$root/README.md"; }

# Puts the rows and reasons of stdin into README.md; of a row that is not there the table keeps what it has.
fill_matrix_table() {
  local rows compiler library suite builds row
  rows=$(cat)
  {
    echo "| compiler | library | suite | Abseil | C++20 | bare | 32 bits | LTO | C++23 | bare | 32 bits | LTO |"
    echo "|---|---|---|---|---|---|---|---|---|---|---|---|"
    while IFS=$'\t' read -r compiler library suite builds _; do
      row=$(grep -F "| $compiler | $library | $suite |" <<<"$rows" || matrix_table | grep -F "| $compiler | $library | $suite |" || :)
      [[ -z $row ]] || echo "$row"
    done < <(matrix_rows .)
  } >"$scratch/table"
  awk -v begin="$matrix_begin" -v end="$matrix_end" -v table="$scratch/table" '
    $0 == end { inside = 0 }
    !inside
    $0 == begin { inside = 1; while ((getline line < table) > 0) print line }
  ' "$root/README.md" >"$scratch/README.md"
  cat "$scratch/README.md" >"$root/README.md"
}

# Fails, and says so, unless the table of README.md has the rows and the builds of the list, each of them well or SKIPPED.
check_matrix() {
  local wanted compiler library suite builds build pairs
  wanted=$(while IFS=$'\t' read -r compiler library suite builds _; do
    pairs=()
    for build in $builds; do pairs+=("$build=ok"); done
    matrix_line "$compiler" "$library" "$suite" N "${pairs[@]}"
  done < <(matrix_rows .))
  diff <(echo "$wanted") <(matrix_table | sed -E 's/^((\|[^|]*){3}\|)[^|]*/\1 N /; s/ SKIPPED / ok /g') >"$scratch/differences" && return
  say "README.md has another table than ./dev matrix would write (<: of tools/dev/matrix.tsv; >: of README.md)"
  indent <"$scratch/differences" >&2
  exit "$status_failed"
}

matrix_command() {
  local pattern=${1:-.} compiler library suite builds packages build number=0 result pairs matrix_refusal
  local ok=0 failed=0 skipped=0 refusals=() numbers=() rows=()
  (($# <= 1)) || die "$status_usage" "matrix takes one pattern of rows, or --check"
  if [[ $pattern == --check ]]; then
    check_matrix
    return
  fi
  mapfile -t rows < <(matrix_rows "$pattern")
  ((${#rows[@]})) || die "$status_usage" "no row matches '$pattern'; tools/dev/matrix.tsv has them"
  mkdir "$scratch/matrix"
  make_matrix_sources
  for row in "${rows[@]}"; do
    IFS=$'\t' read -r compiler library suite builds packages <<<"$row"
    # shellcheck disable=SC2086  # A list of words.
    find_matrix_packages "$suite" libabsl-dev $packages
    refusals+=("$matrix_refusal")
    for build in $builds; do
      number=$((number + 1))
      if [[ -n $matrix_refusal ]]; then
        echo SKIPPED >"$scratch/matrix/$number.result"
      else
        echo "$number $compiler $library $suite $build"
      fi
    done
  done >"$scratch/matrix/todo"
  phase "matrix: $(wc -l <"$scratch/matrix/todo") builds" "$scratch/matrix/log" matrix_builds || :

  number=0
  for row in "${!rows[@]}"; do
    IFS=$'\t' read -r compiler library suite builds _ <<<"${rows[row]}"
    pairs=()
    for build in $builds; do
      number=$((number + 1))
      result=$(cat "$scratch/matrix/$number.result" 2>/dev/null || echo FAILED)
      pairs+=("$build=$result")
      case $result in
        ok) ok=$((ok + 1)) ;;
        SKIPPED) skipped=$((skipped + 1)) ;;
        *)
          failed=$((failed + 1))
          echo "FAILED $compiler $library $suite $build:"
          grep -E -A4 'error:|warning:' "$scratch/matrix/$number.log" | head -n 40 | indent || tail -n 10 "$scratch/matrix/$number.log" | indent
          ;;
      esac
    done
    [[ -z ${refusals[row]} ]] || echo "SKIPPED $compiler $library: ${refusals[row]}"
    matrix_line "$compiler" "$library" "$suite" "$(matrix_abseil "$suite")" "${pairs[@]}" >>"$scratch/rows"
  done
  fill_matrix_table <"$scratch/rows"
  cat "$scratch/table"
  echo "matrix: $ok ok, $failed failed, $skipped skipped"
  ((failed == 0 && ok > 0)) || exit "$status_failed"
}
