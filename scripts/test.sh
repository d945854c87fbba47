#!/usr/bin/env bash
# Sets up what is missing and runs every check. Arguments go to pytest: scripts/test.sh -k embedded -x
# With --thorough it takes its time: more kills, and every privilege of every profile.
#
# A program that only some tests need is installed when this runs as root; elsewhere those tests are
# skipped with the reason, except where CI=true: there they fail.
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

check() { # check COMMAND...: quiet unless it fails
    local output
    if ! output=$("$@" 2>&1); then
        printf '%s\n' "$output" >&2
        die 1 "failed: $*"
    fi
}

step() { printf -- '- %s\n' "$*"; }

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
# Hundreds of tests start a process, and each would compile all of it where the environment keeps it from being kept.
"$bin/python" -m compileall -q reaper
step ruff
check "$bin/ruff" check .
check "$bin/ruff" format --check .
step mypy
check "$bin/mypy"
step import-linter
check "$bin/lint-imports"
if command -v shellcheck >/dev/null; then
    step shellcheck
    check shellcheck -x -a scripts/*.sh systemd/*.sh tests/*.sh .ci/run
fi
step 'config/reaper.toml'
REAPER_CONFIG=config/reaper.toml check "$bin/reaper" config show
step docs
for page in scripts/*_page.py; do
    check "$bin/python" "$page" --check
done
# A warning is an error: so is a link to nothing, be it a page or a heading. Nothing is loaded from elsewhere.
check "$bin/sphinx-build" -W -n -q --keep-going -E -d build/doctrees docs build/site
step pytest
# Files side by side, four on two processors: much of the time is spent waiting for processes. In the order of LONG in
# tests/conftest.py.
exec "$bin/pytest" -q -n 4 --dist loadfile --no-loadscope-reorder "$@"
