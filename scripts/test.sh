#!/usr/bin/env bash
# Installs what is missing and runs every check. Arguments go to pytest: scripts/test.sh -k embedded -x
# --thorough runs longer tests too: more kills, and every privilege of every profile.
# --systems, as the first argument, runs only the tests of public job systems, each installed in .venvs/, and prints a
# table of results.
#
# Programs that only some tests need are installed when this runs as root. Otherwise those tests are skipped with the
# reason; with CI=true they fail.
# Functions that only `begin` calls look unreachable to shellcheck.
# shellcheck disable=SC2317
set -euo pipefail

unset CDPATH  # otherwise `cd` may go to another folder and print its path
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"

# package:file; the package is installed if the file exists
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

find_missing() { # Sets `missing` to the packages that are not installed.
    local entry
    missing=()
    for entry in "${wanted[@]}"; do
        compgen -G "${entry#*:}" >/dev/null || missing+=("${entry%%:*}")
    done
}

step() { printf -- '- %s\n' "$*"; }

begin() { # begin NAME COMMAND...: runs a command in the background. `finish NAME` waits for it.
    local name=$1
    shift
    "$@" >"$outputs/$name" 2>&1 </dev/null &
    begun[$name]=$!
}

finish() { # finish NAME...: waits for these commands. Prints the output of failed ones and sets `failed`.
    local name
    for name; do
        step "$name"
        wait "${begun[$name]}" && continue
        cat "$outputs/$name" >&2
        printf '%s: failed: %s\n' "${0##*/}" "$name" >&2
        failed=1
    done
}

# Warnings are errors, so a link to a missing page or heading fails. Nothing is loaded from the network.
make_site() { "$bin/sphinx-build" -W -n -q --keep-going -E -d build/doctrees docs build/site; }

run_ruff() { "$bin/ruff" check . && "$bin/ruff" format --check .; }

cd "$root"
mkdir -p logs
# The caller's settings name the caller's database: the tests must not use them.
for variable in $(compgen -e); do
    case $variable in
        REAPER_* | PROTEA_TUNING__* | CREDENTIALS_DIRECTORY) unset "$variable" ;;
        DATABASE_URL | CELERY_BROKER_URL | REDIS_URL) unset "$variable" ;;
    esac
done

prepare_venv dev run/reaper run/embedded run/celery run/mysql dev/dev
find_missing
if ((${#missing[@]})) && install_packages "${missing[@]}"; then find_missing; fi
if ((${#missing[@]})); then
    [[ ${CI:-} != true ]] || die 1 "not installed, and CI=true: ${missing[*]} (see logs/apt.log)"
    say "Not installed, so what needs them is skipped: ${missing[*]}"
fi

bin="$root/.venv/bin"
if [[ ${1:-} == --systems ]]; then exec "$bin/pytest" -q tests/systems "$@"; fi
declare -A begun=()
failed=0
outputs=$(mktemp -d)
# Background processes of a script do not receive Ctrl-C.
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$outputs"' EXIT

# Hundreds of tests start a process. If the environment forbids Python to write bytecode, each process compiles all its
# imports again. pytest also writes the bytecode of the tests.
unset PYTHONDONTWRITEBYTECODE
"$bin/python" -m compileall -q reaper tests/support
# mypy and the site are slow and run beside pytest. The other checks must pass before pytest starts.
begin mypy "$bin/mypy"
begin 'pages of docs' make_site
begin ruff run_ruff
begin import-linter "$bin/lint-imports"
begin 'shipped configuration' env REAPER_CONFIG=config/reaper.toml "$bin/reaper" config show
begin 'audit of the locks' "$bin/python" scripts/audit_locks.py
quick=(ruff import-linter 'shipped configuration')
if ! compgen -G 'tests/__pycache__/conftest.*.pyc' >/dev/null; then
    # The first run on this machine: otherwise each of the parallel processes compiles all tests.
    begin 'compiling the tests' "$bin/pytest" -qq --collect-only tests
    quick+=('compiling the tests')
fi
if command -v shellcheck >/dev/null; then
    begin shellcheck shellcheck -x -a scripts/*.sh systemd/*.sh tests/support/*.sh .ci/run
    quick+=(shellcheck)
fi
finish "${quick[@]}"
((!failed)) || exit 1
step pytest
# Test files run in parallel, six on two processors, because they often wait for processes. Their order is LONG in
# tests/conftest.py.
"$bin/pytest" -q -n 6 --dist loadfile --no-loadscope-reorder "$@" || failed=1
finish mypy 'pages of docs' 'audit of the locks'
# Without the network the audit passes, and says that it found out nothing.
grep 'NOT audited' "$outputs/audit of the locks" || true
exit "$failed"
