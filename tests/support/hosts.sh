#!/usr/bin/env bash
# A host of its own in namespaces, with a real systemd as its first process. For tests/support/hosts.py.
#
# hosts.sh FOLDER MOUNT...   each MOUNT is FROM:TO, a folder that the host sees too. Ends with the host.
#
# Its / is this machine's, below a layer that is thrown away: whatever is installed or written there is gone afterwards,
# and nothing of this machine's is changed. Network and clock are shared.
set -euo pipefail

folder=$1
shift

readonly unwanted=(
    dbus.service dbus.socket dev-hugepages.mount dev-mqueue.mount getty.target kmod-static-nodes.service
    sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount
    systemd-binfmt.service systemd-journald-audit.socket systemd-logind.service systemd-modules-load.service
    systemd-remount-fs.service systemd-sysctl.service systemd-udevd.service systemd-update-utmp.service
)

begin() {
    # Out of sight of the rest of the machine, and gone with the last process that sees it.
    mount -t tmpfs tmpfs "$folder"
    mkdir "$folder"/{groups,upper,work,root}
    mount -t cgroup2 cgroup2 "$folder/groups"
    group="$folder/groups/reaper-test-$$"
    mkdir "$group"
    echo $$ >"$group/cgroup.procs"
    setpriv --pdeathsig KILL unshare --cgroup --pid --fork --kill-child --mount --uts --ipc "$BASH" "$0" --inside "$folder" "$@" || true
    echo $$ >"$folder/groups/cgroup.procs"
    find "$group" -depth -type d -exec rmdir {} +
}

inside() {
    local pair device unit
    mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
    cd "$folder/root"
    mount -t proc proc proc
    # Kernel settings belong to the machine.
    mount --bind -o ro proc/sys proc/sys
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs dev
    for device in null zero full random urandom tty; do
        : >"dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    done
    mkdir dev/{pts,shm}
    ln -s /proc/self/fd dev/fd
    mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    mount -t tmpfs tmpfs dev/shm
    mount -t tmpfs -o mode=755 tmpfs run
    mount -t tmpfs -o mode=1777 tmpfs tmp
    for pair; do
        mkdir -p ".${pair#*:}"
        mount --bind "${pair%%:*}" ".${pair#*:}"
    done
    # None of this machine's own services, and nothing that reaches for its kernel.
    rm -rf etc/systemd/system etc/rc?.d var/log/journal
    mkdir -p etc/systemd/system run/systemd/system
    for unit in "${unwanted[@]}"; do
        ln -s /dev/null "etc/systemd/system/$unit"
    done
    cat >run/systemd/system/host.target <<UNIT
[Unit]
Description=What a host needs to run services
Wants=systemd-journald.service multi-user.target
After=systemd-journald.service multi-user.target
AllowIsolate=yes
UNIT
    pivot_root . mnt
    umount -l mnt
    # What systemd mounts for one unit, such as its credentials, has to reach that unit's namespace.
    mount --make-rshared /
    exec setpriv --bounding-set -sys_module,-sys_rawio,-sys_time,-sys_boot,-syslog,-audit_control,-audit_read \
        env -i container=reaper-test PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        /lib/systemd/systemd --system --unit=host.target --log-target=journal --show-status=no
}

if [[ $folder == --inside ]]; then
    folder=$1
    shift
    inside "$@"
else
    begin "$@"
fi
