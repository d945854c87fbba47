#!/usr/bin/env bash
# Sets up what is missing and runs every check. Arguments go to pytest: scripts/test.sh -k embedded -x
# With --thorough it takes its time: more kills, and every privilege of every profile.
#
# A program that only some tests need is installed when this runs as root; elsewhere those tests are
# skipped with the reason, except where CI=true: there they fail.
# What only `begin` calls, shellcheck takes for unreachable.
# shellcheck disable=SC2317
set -euo pipefail

unset CDPATH  # or `cd` may go, and speak, elsewhere
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"

# package:file, the file telling whether the package is there
readonly wanted=(
    pgbouncer:/usr/sbin/pgbouncer
    prometheus:/usr/bin/promtool
    prometheus-alertmanager:/usr/bin/prometheus-alertmanager
    libfaketime:/usr/lib/*/faketime/libfaketime.so.1
    redis-server:/usr/bin/redis-server
    rabbitmq-server:/usr/sbin/rabbitmq-server
    mariadb-server:/usr/sbin/mariadbd
    chromium:/usr/bin/chromium
    shellcheck:/usr/bin/shellcheck
    systemd:/usr/bin/systemd-analyze
    logrotate:/usr/sbin/logrotate
    python3-venv:/usr/lib/python3*/ensurepip/__init__.py
)

find_missing() { # Sets `missing` to the packages that are not there.
    local entry
    missing=()
    for entry in "${wanted[@]}"; do
        compgen -G "${entry#*:}" >/dev/null || missing+=("${entry%%:*}")
    done
}

step() { printf -- '- %s\n' "$*"; }

begin() { # begin NAME COMMAND...: beside what follows. `finish NAME` waits for it.
    local name=$1
    shift
    "$@" >"$outputs/$name" 2>&1 </dev/null &
    begun[$name]=$!
}

finish() { # finish NAME...: quiet, unless one has failed; then says what the failed ones said, and sets `failed`.
    local name
    for name; do
        step "$name"
        wait "${begun[$name]}" && continue
        cat "$outputs/$name" >&2
        printf '%s: failed: %s\n' "${0##*/}" "$name" >&2
        failed=1
    done
}

# A link to a page or a heading that is not there is an error, as every warning is. Nothing is loaded from elsewhere.
make_site() { "$bin/sphinx-build" -W -n -q --keep-going -E -d build/doctrees docs build/site; }

check_pages() {
    local page status=0
    for page in scripts/*_page.py; do
        "$bin/python" "$page" --check || status=1
    done
    return "$status"
}

run_ruff() { "$bin/ruff" check . && "$bin/ruff" format --check .; }

cd "$root"
mkdir -p logs
# The caller's own settings are for the caller's own database.
for variable in $(compgen -e); do
    case $variable in REAPER_* | PROTEA_TUNING__* | CREDENTIALS_DIRECTORY) unset "$variable" ;; esac
done

prepare_venv dev -e '.[embedded,celery,mysql]' --group dev
find_missing
if ((${#missing[@]})) && install_packages "${missing[@]}"; then find_missing; fi
if ((${#missing[@]})); then
    [[ ${CI:-} != true ]] || die 1 "not installed, and CI=true: ${missing[*]} (see logs/apt.log)"
    say "Not installed, so what needs them is skipped: ${missing[*]}"
fi

bin="$root/.venv/bin"
declare -A begun=()
failed=0
outputs=$(mktemp -d)
# Background processes of a script do not get Ctrl-C.
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$outputs"' EXIT

# Hundreds of tests start a process, and each would compile all that it imports where the environment keeps Python from
# writing what it has compiled. pytest keeps the tests that it has compiled, too.
unset PYTHONDONTWRITEBYTECODE
"$bin/python" -m compileall -q reaper tests/support
# The slow ones, mypy and the site, go on beside pytest. The others fail before it begins.
begin mypy "$bin/mypy"
begin 'pages of docs' make_site
begin ruff run_ruff
begin import-linter "$bin/lint-imports"
begin 'shipped configuration' env REAPER_CONFIG=config/reaper.toml "$bin/reaper" config show
begin 'generated pages' check_pages
quick=(ruff import-linter 'shipped configuration' 'generated pages')
if command -v shellcheck >/dev/null; then
    begin shellcheck shellcheck -x -a scripts/*.sh systemd/*.sh tests/support/*.sh .ci/run
    quick+=(shellcheck)
fi
finish "${quick[@]}"
((!failed)) || exit 1
step pytest
# Files side by side, four on two processors: much of the time is spent waiting for processes. In the order of LONG in
# tests/conftest.py.
"$bin/pytest" -q -n 4 --dist loadfile --no-loadscope-reorder "$@" || failed=$?
finish mypy 'pages of docs'
exit "$failed"
