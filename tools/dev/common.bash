# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/common.bash
#
# The common part of all commands of ./dev: messages on stderr, a scratch directory, long work with signs of life, Bazel.
# Sourced by `dev`, which sets root.

readonly status_failed=1 status_usage=2 status_packages=3
readonly heartbeat_seconds=20

say() { printf 'dev: %s\n' "$*" >&2; }

die() {
  local status=$1
  shift
  say "$@"
  exit "$status"
}

indent() { sed 's/^/    /'; }

require_home() {
  [[ -d ${HOME:-} && -w $HOME ]] ||
    die "$status_usage" "HOME is '${HOME:-}'; Bazel and the caches need a directory there that can be written: export HOME=…"
}

# The links of ion/ to the folders beside it. Without symbolic links (a zip archive, core.symlinks=false) each is a
# file that has its target.
require_links() {
  local link target
  for link in "$root"/ion/{backends,devices,platforms,policies,uapi}; do
    [[ -f $link && ! -L $link ]] || continue
    target=$(<"$link")
    [[ $target == "../${link##*/}" || $target == "../third_party/ion_${link##*/}" ]] ||
      die "$status_usage" "ion/${link##*/} has something else than a link: restore it, git checkout ion"
    say "ion/${link##*/} is a file, as this checkout has no symbolic links: it is made a link"
    ln -sf "$target" "$link"
  done
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/ion-dev.XXXXXX")
readonly scratch
working='' beating=''

# end_job SIGNAL JOB. A job is a process group: with it ends what it started, Bazel's client and QEMU included.
end_job() { [[ -z $2 ]] || { kill -s "$1" -- "-$2" && wait "$2"; } 2>/dev/null || :; }

# A job that is ended before it has reset its traps runs them; the scratch directory is ours.
clean_up() {
  [[ $BASHPID == "$$" ]] || return 0
  end_job KILL "$beating"
  end_job TERM "$working"
  rm -rf "$scratch"
}
trap clean_up EXIT
trap 'echo >&2; exit 130' INT
trap 'exit 143' TERM HUP

# The seconds since ./dev was called.
elapsed() { printf '%4d s  %s' "$SECONDS" "$*"; }

last_line() { grep -v '^[[:space:]]*$' "$1" | tail -n 1 | cut -c 1-100; }

heartbeat() {
  local what=$1 log=$2 columns
  if [[ -t 2 ]]; then
    columns=$(stty size <&2 | cut -d ' ' -f 2)
    while sleep 1; do printf '\r\033[K%s' "$(elapsed "$what: $(last_line "$log")" | cut -c "1-$((columns > 1 ? columns - 1 : 79))")" >&2; done
  else
    while sleep "$heartbeat_seconds"; do printf '%s\n' "$(elapsed "$what: $(last_line "$log")")" >&2; done
  fi
}

# phase WHAT LOG CMD…: runs CMD with its output in LOG; prints a line when it starts, and its last line of output from time to
# time.
phase() {
  local what=$1 log=$2 status=0
  shift 2
  printf '%s\n' "$(elapsed "$what")" >&2
  set -m
  "$@" </dev/null >"$log" 2>&1 &
  working=$!
  heartbeat "$what" "$log" </dev/null >/dev/null &
  beating=$!
  set +m
  wait "$working" || status=$?
  working=''
  end_job KILL "$beating"
  beating=''
  [[ ! -t 2 ]] || printf '\r\033[K' >&2
  return "$status"
}

run_bazel() { cd "$root" && exec bazel "$@"; }

# bazel_phase WHAT LOG COMMAND OPTION…: Bazel's own progress, line by line, goes into the log of phase().
bazel_phase() {
  local what=$1 log=$2 command=$3
  shift 3
  phase "$what" "$log" run_bazel "$command" --show_progress --show_progress_rate_limit=2 --curses=no --color=no "$@"
}

# Bazel's output without the lines that it always prints.
bazel_errors() {
  awk '!/^(Loading|Analyzing|INFO|Starting local Bazel|\[[0-9,]+ \/ [0-9,]+\]|\(..:..:..\)|[[:space:]]*$)/ && ++n <= 80' "$1"
}

# Bazel's answer on stdout.
ask_bazel() {
  (run_bazel "$@") </dev/null 2>"$scratch/asked" || {
    bazel_errors "$scratch/asked" >&2
    die "$status_failed" "bazel $1 failed"
  }
}

# build WHAT TARGET…, with the Bazel options of the array build_options; shows why when it fails.
build() {
  local what=$1 log=$scratch/build.log
  shift
  bazel_phase "$what" "$log" build "${build_options[@]}" "$@" || {
    bazel_errors "$log" >&2
    die "$status_failed" "$* did not build"
  }
}
