# --instance: prepares another reaper beside the plain one. Sourced by install.sh.
# shellcheck shell=bash

# The name is used in the names of files, folders and a unit, where `.` has a meaning; `reaper` is the plain instance.
check_name() {
    [[ $instance =~ ^[A-Za-z0-9][A-Za-z0-9_-]*$ && $instance != reaper ]] ||
        die 2 "--instance: expected a name of letters, digits, - and _ (other than reaper), not '$instance'"
}

make_instance() {
    local folder="$configuration/$instance" config_file="$configuration/$instance.toml"
    [[ -x $program/bin/reaper-as-service ]] || die 1 "nothing is installed yet; run install.sh without --instance first"
    is_our_command "$command@$instance" || refuse "$command@$instance"
    [[ -d $folder || ! -e $folder ]] || die 1 "--instance: $folder is a file; choose another name"
    (umask 077 && mkdir -p "$folder")
    [[ -e $config_file ]] ||
        sed "s/^#http_port = .*/http_port = $(free_port)/" "$documents/reaper.toml" | write_atomically "$config_file" 0640
    make_secrets "$folder"
    ln -sfn "$program/bin/reaper-as-service" "$command@$instance"
    # Sets owners and modes.
    systemd-tmpfiles --create "$library/tmpfiles.d/reaper.conf"
    say "Prepared: $config_file, $folder. Next:"
    print_url_hint "$folder/database_url"
    say "  $command@$instance check"
    say "  systemctl enable --now reaper@$instance"
    say "  systemctl status reaper@$instance"
}

# The first port from 9470 on that no configuration file in $configuration uses.
free_port() {
    local port=9470
    while grep -qsE "^[[:blank:]]*http_port[[:blank:]]*=[[:blank:]]*$port\b" "$configuration"/*.toml; do
        port=$((port + 1))
    done
    printf '%s\n' "$port"
}
