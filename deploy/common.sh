# common.sh - what deploy/up and deploy/down share: where a cluster's files are, and which processes are its nodes.
# shellcheck shell=bash

program=${0##*/}

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$program" "$*" >&2
    exit 1
}

# Sets $dir to the absolute path of $1 (which need not exist yet).
set_dir() {
    case "$1" in
    '') die '--dir needs a directory' ;;
    *$'\n'*) die '--dir must be one line' ;;
    esac
    # One spelling for one directory: the running nodes are recognised by it.
    dir=$(realpath -m -- "$1")
    [ "$dir" != / ] || die '--dir must not be the root directory'
}

# One deploy/up or deploy/down at a time works in $dir: the lock ends with this process.
lock_dir() {
    exec 9>"$dir/.lock"
    flock -n 9 || die "another deploy/up or deploy/down is at work in $dir"
}

# Prints the recorded value of $1 in $dir/cluster.conf, nothing when there is none.
recorded() {
    [ -r "$dir/cluster.conf" ] || return 0
    sed -n "s/^$1 = //p" "$dir/cluster.conf" | head -n 1
}

# Sets $pid to the running process of node number $1, or returns false. A recorded number alone proves nothing: the
# process that has it now must be a kvnode that was started with this node's file.
find_pid() {
    local conf=$dir/node$1/kvnode.conf words
    pid=''
    [ -r "$dir/node$1/kvnode.pid" ] || return 1
    read -r pid <"$dir/node$1/kvnode.pid" || true
    case "$pid" in '' | *[!0-9]*) return 1 ;; esac
    [ -r "/proc/$pid/cmdline" ] || return 1
    mapfile -d '' -t words <"/proc/$pid/cmdline" 2>/dev/null || return 1
    # A process that is ending has no words any more.
    [ "${#words[@]}" -gt 2 ] && [ "${words[0]##*/}" = kvnode ] || return 1
    [ "${words[1]}" = --config ] && [ "${words[2]}" = "$conf" ]
}
