# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: tools/dev/editor.bash
#
# ./dev compdb: writes compile_commands.json, from which editors and clangd know how each file compiles. Sourced by `dev`.

# json_string TEXT
json_string() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

compdb_command() {
  local database=$root/compile_commands.json flags=() arguments flag file comma=''
  (($# == 0)) || die "$status_usage" "compdb takes no arguments"
  need_packages "${build_packages[@]}" || exit
  cd "$root"
  mapfile -t flags < <(compiler_flags)
  ((${#flags[@]})) || die "$status_failed" "Bazel cannot load the workspace: run bazel build --nobuild //..."
  arguments='"clang++"'
  for flag in "${flags[@]}"; do arguments+=", $(json_string "$flag")"; done
  {
    printf '['
    while read -r file; do
      printf '%s\n  {"directory": %s, "file": %s, "arguments": [%s, %s]}' "$comma" "$(json_string "$root")" \
        "$(json_string "$file")" "$arguments" "$(json_string "$file")"
      comma=,
    done < <(git ls-files --cached --others --exclude-standard -- '*.h' '*.cc')
    printf '\n]\n'
  } >"$scratch/compile_commands.json"
  mv "$scratch/compile_commands.json" "$database"
  echo "$database"
}
