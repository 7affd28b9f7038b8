# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# File: third_party/private_apt.bash
#
# Packages by an apt of our own: its sources, lists and cache lie in one directory, so no root is needed and the system's are only
# read. Sourced by what fetches source packages and kernels.

# machine_repositories deb|deb-src: where the machine itself gets packages, as lines of a sources.list. apt 2.6 leaves
# $(SIGNED_BY) unexpanded; its keys are then those that the machine trusts for every repository.
machine_repositories() {
  # shellcheck disable=SC2016  # apt expands these.
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)' 'Created-By: Packages' |
    sort -u |
    while read -r uri release component signed_by; do
      [[ -n $component ]] || continue
      local options=""
      [[ $signed_by == /* ]] && options="[signed-by=$signed_by] "
      echo "$1 $options$uri $release $component"
    done
}

# suite_repository SUITE: a suite of Debian that is not the machine's, from the mirror of the machine's own. Of one whose support
# has ended, nobody renews the date on the signed lists; the signature is Debian's or there is none to be had.
suite_repository() {
  machine_repositories deb |
    awk -v suite="$1" -v own="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" '
      $NF == "main" && $(NF - 1) == own {
        print "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no]", $(NF - 2), suite, "main"
        exit
      }'
}

# private_apt DIRECTORY TOOL ARG…: TOOL is apt-get or apt-cache; DIRECTORY/sources.list is the caller's. Sandbox::User is
# emptied because apt's own user cannot write below a home directory.
private_apt() {
  local directory=$1 tool=$2
  shift 2
  mkdir -p "$directory/lists/partial"
  "$tool" -qq \
    -o "Dir::Etc::SourceList=$directory/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o "Dir::State::Lists=$directory/lists" -o "Dir::Cache=$directory" \
    -o Acquire::Languages=none -o APT::Sandbox::User= "$@"
}
