# Helpers shared by the scripts of this folder: messages, the Swift check, paths.
# Sourced, not run: it sets `root` and changes into the checkout's top folder.
# shellcheck shell=bash

# A function that runs in $(...) ends at its first failure, as the script does: a failed build is no build.
shopt -s inherit_errexit

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1

# Oldest toolchain that can build everything: raw identifiers and the module Runtime came with 6.2.
readonly minimum_swift_major=6
readonly minimum_swift_minor=2

# Prints a progress line; stdout belongs to the results.
say() {
  printf '%s\n' "$*" >&2
}

# Prints what went wrong and what to do about it, and ends the script.
fail() {
  say "${0##*/}: $*"
  exit 1
}

# Ends the script unless a Swift toolchain that can build the package is on PATH.
require_swift() {
  command -v swift >/dev/null 2>&1 ||
    fail "no 'swift' on PATH. Install Swift $minimum_swift_major.$minimum_swift_minor or newer from https://www.swift.org/install and run this again."
  local text
  text=$(swift --version 2>/dev/null) || fail "'swift --version' failed. Reinstall the toolchain: $(command -v swift)"
  if [[ ! $text =~ Swift\ version\ ([0-9]+)\.([0-9]+) ]]; then
    fail "cannot read the version of $(command -v swift) from: ${text%%$'\n'*}"
  fi
  local major=${BASH_REMATCH[1]} minor=${BASH_REMATCH[2]}
  if ((major < minimum_swift_major || (major == minimum_swift_major && minor < minimum_swift_minor))); then
    fail "Swift $major.$minor is too old: this package needs $minimum_swift_major.$minimum_swift_minor or newer. Get it from https://www.swift.org/install"
  fi
}

# Prints the path of a tool of the toolchain in use. A distribution's own llvm tools are often older
# and refuse what this compiler writes, so PATH is not asked.
toolchain_tool() {
  local bin tool
  bin=$(dirname "$(readlink -f "$(command -v swift)")")
  tool=$bin/$1
  if [[ ! -x $tool ]]; then
    # Version managers put a small launcher on PATH; the compiler knows where it really lives.
    bin=$(swiftc -print-target-info | sed -n 's|.*"runtimeResourcePath": *"\(.*\)/lib/swift".*|\1/bin|p')
    tool=$bin/$1
  fi
  [[ -x $tool ]] || fail "the Swift toolchain has no $1 beside its compiler ($bin)."
  printf '%s\n' "$tool"
}

# Builds mempool-doctor in release configuration and prints the path of the executable.
build_doctor() {
  swift build -c release --product mempool-doctor >&2
  printf '%s/mempool-doctor\n' "$(swift build -c release --show-bin-path)"
}

# Sends the recordings of this script's processes to a folder that is removed at its end: tests leak on purpose, and
# what a program with findings recorded stays where it is otherwise.
discard_recordings() {
  XDG_RUNTIME_DIR=$(mktemp -d)
  export XDG_RUNTIME_DIR
  # shellcheck disable=SC2064 # the folder of now, whatever the variable holds later
  trap "rm -rf '$XDG_RUNTIME_DIR'" EXIT
}
