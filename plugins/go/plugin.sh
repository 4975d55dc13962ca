# Runs one subcommand of go.
set -eu

wrong() {
    echo "go: error: $1" >&2
    exit 2
}

[ -n "${PLUGIN_COMMAND:-}" ] || wrong "the input \`command\` is missing; set it under \`with:\`"
case "${PLUGIN_CGO:-}" in
    '') ;;
    true | 1 | yes) export CGO_ENABLED=1 ;;
    false | 0 | no) export CGO_ENABLED=0 ;;
    *) wrong "\`cgo\` is '$PLUGIN_CGO'; write true or false" ;;
esac
export GOTOOLCHAIN="${PLUGIN_TOOLCHAIN:-${GOTOOLCHAIN:-auto}}"
export GOMODCACHE="${GOMODCACHE:-$PWD/.cache/go/mod}" GOCACHE="${GOCACHE:-$PWD/.cache/go/build}"
# Written without the write bits of go's habit, a module cache could not be removed with the workspace.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-modcacherw"
command -v go >/dev/null || {
    echo "go: error: there is no \`go\` on this machine; install Go" >&2
    exit 127
}
cd -- "${PLUGIN_WORKING_DIR:-.}" 2>/dev/null || wrong "\`working-dir\` is '$PLUGIN_WORKING_DIR': there is no such directory"
set -f # the command is split at blanks and nothing else is done to it
# shellcheck disable=SC2086
exec go $PLUGIN_COMMAND
