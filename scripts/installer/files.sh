# Installs units, documents, configuration and secrets. Sourced by install.sh.
# shellcheck shell=bash

install_files() {
    local entry
    for entry in "${files[@]}"; do
        install_file "$root/${entry%%:*}" "${entry#*:}"
    done
}

# install_file SOURCE TARGET: copies a file and adapts its paths to the prefix. Scripts become executable.
install_file() {
    local mode=0644
    [[ $1 != *.sh ]] || mode=0755
    mkdir -p "${2%/*}"
    if is_host; then
        install -m "$mode" "$1" "$2"
    else
        # Only paths at the start of a word: `%S/opt/reaper` or `x/etc/reaper` are other paths.
        sed -E "s#(^|[ :=])(/(opt|etc|var/lib|var/log)/reaper)#\\1${prefix//[#&\\]/\\&}\\2#g" "$1" >"$2"
        chmod "$mode" "$2"
    fi
}

# Files below /etc, which an administrator may edit.
install_configuration() {
    [[ -d $configuration ]] || install -d -m 0750 "$configuration"
    mkdir -p "${rotation%/*}"
    # A rotation file equal to the one shipped last has not been edited, and is replaced.
    if cmp -s "$before/systemd/reaper.logrotate" "$rotation"; then rm "$rotation"; fi
    install_if_absent "$documents/reaper.toml" "$configuration/reaper.toml" 0640
    install_if_absent "$documents/reaper.logrotate" "$rotation" 0644
    make_secrets "$configuration"
}

# install_if_absent SOURCE TARGET MODE: copies a file unless the target exists.
install_if_absent() {
    if [[ ! -e $2 ]]; then
        write_atomically "$2" "$3" <"$1"
    elif ! cmp -s "$1" "$2"; then
        say "$2 is kept as it is; the file of this version is $1"
    fi
}

make_secrets() { # make_secrets FOLDER
    # This token permits halting the daemon and ending jobs over HTTP. The log shows the name before the colon.
    [[ -s $1/http_token ]] ||
        write_atomically "$1/http_token" 0600 <<<"admin:$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
    # systemd does not start a unit whose credential file is missing. For an empty file the daemon prints a clear error.
    [[ -e $1/database_url ]] || write_atomically "$1/database_url" 0600 </dev/null
}

# write_atomically FILE MODE: writes standard input to a file, completely or (on a full disk) not at all. Other users
# cannot read it at any time.
write_atomically() {
    if (umask 077 && cat >"$1.new") && chmod "$2" "$1.new" && mv -T "$1.new" "$1"; then return; fi
    rm -f "$1.new"
    die 1 "$1 cannot be written"
}
