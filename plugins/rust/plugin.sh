# Runs one subcommand of cargo.
set -eu

wrong() {
    echo "rust: error: $1" >&2
    exit 2
}

[ -n "${PLUGIN_COMMAND:-}" ] || wrong "the input \`command\` is missing; set it under \`with:\`"
[ -z "${PLUGIN_RUSTFLAGS:-}" ] || export RUSTFLAGS="$PLUGIN_RUSTFLAGS"
command -v cargo >/dev/null || {
    echo "rust: error: there is no \`cargo\` on this machine; install Rust" >&2
    exit 127
}
toolchain=
if [ -n "${PLUGIN_TOOLCHAIN:-}" ]; then
    case "$PLUGIN_TOOLCHAIN" in
        -* | *[!A-Za-z0-9._-]*) wrong "\`toolchain\` is '$PLUGIN_TOOLCHAIN', which is no name of one" ;;
    esac
    if ! command -v rustup >/dev/null; then
        echo "rust: error: \`toolchain\` needs rustup, which is not on this machine; leave it out" >&2
        exit 127
    fi
    # rustup would fetch what is missing; that is the machine's owner to do.
    if ! rustup run "$PLUGIN_TOOLCHAIN" rustc --version >/dev/null 2>&1; then
        echo "rust: error: the toolchain '$PLUGIN_TOOLCHAIN' is not installed; run: rustup toolchain install $PLUGIN_TOOLCHAIN" >&2
        exit 1
    fi
    toolchain="+$PLUGIN_TOOLCHAIN"
fi
config=
if [ -z "${CARGO_HOME:-}" ]; then
    # What the user has configured, mirrors above all, stays in force.
    config="${HOME:-/nonexistent}/.cargo/config.toml"
    [ -f "$config" ] || config=
    # rustup is where it was: only what cargo downloads moves.
    export CARGO_HOME="$PWD/.cache/cargo"
fi
cd -- "${PLUGIN_WORKING_DIR:-.}" 2>/dev/null || wrong "\`working-dir\` is '$PLUGIN_WORKING_DIR': there is no such directory"
set -f # the command is split at blanks and nothing else is done to it
# shellcheck disable=SC2086
exec cargo $toolchain ${config:+--config "$config"} $PLUGIN_COMMAND
