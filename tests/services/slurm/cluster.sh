#!/usr/bin/env bash
# A real Slurm cluster of two "nodes" on this one machine, reachable by ssh on loopback, for SkyPilot's `infra: slurm`.
#
#   SKY_CLIENT_HOME=DIR cluster.sh up|down|kill-node N
#
# Needs root on Debian. Both slurmd run here, each in a mount and host name space of its own: SkyPilot's runtime folder
# is /tmp/<cluster>, so each "node" needs its own /tmp. Their accelerators are plain files: Slurm counts them, nothing
# computes on them. `up` starts what is not running; `down` stops by pid files only.
set -euo pipefail
base=${SLURM_BASE:-/srv/ftl-slurm}
client=${SKY_CLIENT_HOME:?set SKY_CLIENT_HOME to the HOME of the SkyPilot client}
user=ftlslurm
ssh_port=${SLURM_SSH_PORT:-2222}
nodes=(n1 n2)
# Folders that the nodes' user must be able to read although this machine's /root is closed: colon-separated.
visible=${SLURM_VISIBLE:-}

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
stop() {
  if alive "$1"; then
    kill "$(cat "$1")"
    for _ in $(seq 50); do alive "$1" || break; sleep 0.2; done
  fi
  rm -f "$1"
}

install_packages() {
  local missing=""
  for name in slurmctld slurmd munged sshd rsync curl; do command -v $name >/dev/null || missing=$name; done
  [ -n "$missing" ] || return 0
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge openssh-server rsync curl
}

make_user() {
  mkdir -p "$base/home"
  id $user >/dev/null 2>&1 || useradd -M -d "$base/home" -s /bin/bash $user
  usermod -d "$base/home" -p '*' $user # '*': no password, and not locked, or sshd turns the key away
  chown $user "$base/home"
}

# SkyPilot's bootstrap of a node does `curl https://astral.sh/uv/install.sh | sh` and `uv venv --python 3.10`, which
# downloads an interpreter from GitHub. Where only package registries are in reach, uv and Python are those of this machine.
write_shims() {
  mkdir -p "$base/shim" "$base/uv-cache"
  install -m 755 "$(python3 -c 'import uv; print(uv.find_uv_bin())')" "$base/shim/uv.real"
  cat > "$base/shim/uv" <<S
#!/bin/bash
export UV_PYTHON_DOWNLOADS=never UV_CACHE_DIR=$base/uv-cache
$(env | grep -E '^(PIP_CERT|SSL_CERT_FILE|UV_INDEX_URL|UV_DEFAULT_INDEX)=' | sed 's/^/export /')
args=()
previous=
for word in "\$@"; do
  [ "\$previous" = --python ] && [ "\$word" = 3.10 ] && word=${SLURM_PYTHON:-/usr/bin/python3.11}
  args+=("\$word"); previous=\$word
done
exec $base/shim/uv.real "\${args[@]}"
S
  cat > "$base/shim/curl" <<S
#!/bin/bash
case "\$*" in
  *astral.sh/uv/install.sh*) echo 'd=\$(eval echo "\$UV_INSTALL_DIR"); mkdir -p "\$d" && cp -f $base/shim/uv "\$d/uv"' ;;
  *) exec /usr/bin/curl "\$@" ;;
esac
S
  chmod 755 "$base"/shim/*
  chown -R $user "$base/uv-cache"
  # Login shells (SkyPilot runs `bash --login -c`) begin with the PATH of /etc/profile.
  for file in .profile .bash_profile; do
    echo "export PATH=$base/shim:\$PATH" > "$base/home/$file"
    chown $user "$base/home/$file"
  done
}

start_munge() {
  [ -s /etc/munge/munge.key ] || dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none
  chown munge:munge /etc/munge/munge.key
  chmod 400 /etc/munge/munge.key
  mkdir -p /run/munge
  chown munge:munge /run/munge
  chmod 755 /run/munge
  alive /run/munge/munged.pid || runuser -u munge -- /usr/sbin/munged
}

write_slurm_conf() {
  mkdir -p /etc/slurm "$base"/{run,log,ctld,dev}
  chown slurm "$base"/{run,log,ctld}
  cat > /etc/slurm/slurm.conf <<S
ClusterName=onprem
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
SlurmctldPort=17817
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
KillWait=15
SlurmdTimeout=8
SlurmctldTimeout=20
InactiveLimit=0
GresTypes=gpu
StateSaveLocation=$base/ctld
SlurmctldPidFile=$base/run/slurmctld.pid
SlurmctldLogFile=$base/log/slurmctld.log
SlurmdPidFile=$base/run/slurmd-%n.pid
SlurmdLogFile=$base/log/slurmd-%n.log
SlurmdSpoolDir=$base/nodes/%n/spool
S
  : > /etc/slurm/gres.conf
  for number in "${!nodes[@]}"; do
    node=${nodes[$number]}
    mkdir -p "$base/nodes/$node"/{tmp,spool}
    chmod 1777 "$base/nodes/$node/tmp"
    for gpu in 0 1; do : > "$base/dev/$node-gpu$gpu"; done
    echo "NodeName=$node NodeHostname=$(hostname -s) NodeAddr=127.0.0.$((number + 2)) Port=$((17818 + number))" \
      "CPUs=16 RealMemory=100000 Gres=gpu:A100:2 State=UNKNOWN" >> /etc/slurm/slurm.conf
    echo "NodeName=$node Name=gpu Type=A100 File=$base/dev/$node-gpu[0-1]" >> /etc/slurm/gres.conf
  done
  echo "PartitionName=gpu Nodes=n1,n2 Default=YES MaxTime=24:00:00 DefaultTime=12:00:00 State=UP" >> /etc/slurm/slurm.conf
}

# In the node's own mount space: a closed folder is replaced by an open one that holds what is wanted of it.
show_folders() {
  local path closed kept
  IFS=: read -ra wanted <<< "$visible"
  for path in "${wanted[@]}"; do
    if [[ $path == /tmp/* ]]; then # the node's /tmp is another one
      mkdir -p "$base/nodes/$node$path"
      mount --bind "$path" "$base/nodes/$node$path"
      continue
    fi
    runuser -u $user -- test -x "$path" && continue
    closed=/$(cut -d/ -f2 <<< "$path")
    kept=$(mktemp -d /run/ftl-kept-XXXX)
    mkdir "$kept/all"
    mount --bind "$closed" "$kept/all"
    mount -t tmpfs -o mode=755 tmpfs "$closed"
    mkdir -p "$path"
    mount --bind "$kept/all${path#"$closed"}" "$path"
  done
}

start_nodes() {
  alive "$base/run/slurmctld.pid" || /usr/sbin/slurmctld
  # SkyPilot's executor on a node does gethostbyname(gethostname()).
  { cat /etc/hosts; for number in "${!nodes[@]}"; do echo "127.0.0.$((number + 2)) ${nodes[$number]}"; done; } > "$base/hosts"
  for node in "${nodes[@]}"; do
    alive "$base/run/slurmd-$node.pid" || base=$base visible=$visible user=$user node=$node \
      unshare --mount --uts --propagation private bash -c "$(declare -f show_folders)"'
        show_folders
        mount --rbind "$base/nodes/$node/tmp" /tmp
        mount --bind "$base/hosts" /etc/hosts
        hostname "$node"
        exec /usr/sbin/slurmd -N "$node"' < /dev/null
  done
}

start_login_node() {
  mkdir -p "$base/ssh" "$client/.ssh" "$client/.slurm" /run/sshd
  chmod 700 "$client/.ssh"
  [ -f "$base/ssh/host-key" ] || ssh-keygen -q -t ed25519 -N '' -f "$base/ssh/host-key"
  [ -f "$client/.ssh/slurm-key" ] || ssh-keygen -q -t ed25519 -N '' -f "$client/.ssh/slurm-key"
  install -d -o $user -m 700 "$base/home/.ssh"
  install -o $user -m 600 "$client/.ssh/slurm-key.pub" "$base/home/.ssh/authorized_keys"
  cat > "$base/ssh/sshd_config" <<S
ListenAddress 127.0.0.1
Port $ssh_port
HostKey $base/ssh/host-key
PidFile $base/run/sshd.pid
UsePAM no
PasswordAuthentication no
AllowUsers $user
Subsystem sftp internal-sftp
MaxSessions 100
MaxStartups 100:30:200
SetEnv PATH=$base/shim:/usr/local/bin:/usr/bin:/bin
S
  alive "$base/run/sshd.pid" || /usr/sbin/sshd -f "$base/ssh/sshd_config"
  cat > "$client/.slurm/config" <<S
Host onprem
    HostName 127.0.0.1
    Port $ssh_port
    User $user
    IdentityFile $client/.ssh/slurm-key
    IdentitiesOnly yes
S
}

wait_for_nodes() {
  for _ in $(seq 120); do
    [ "$(sinfo -h -N -o '%t' | grep -cxE 'idle|mix|alloc')" -ge ${#nodes[@]} ] && return
    sleep 0.5
  done
  sinfo -N -l >&2
  tail -n 20 "$base"/log/*.log >&2
  exit 1
}

up() {
  install_packages
  make_user
  chmod 755 "$base" "$base/home"
  write_shims
  start_munge
  alive "$base/run/slurmctld.pid" || write_slurm_conf
  start_nodes
  start_login_node
  wait_for_nodes
}

# Everything of a node dies at once, as when its power goes; returns when Slurm has noticed.
kill_node() {
  local space pid left=1
  space=$(readlink "/proc/$(cat "$base/run/slurmd-$1.pid")/ns/uts")
  while [ "$left" -gt 0 ]; do # what was just being started is there in the next round
    left=0
    for pid in /proc/[0-9]*; do
      [ "$(readlink "$pid/ns/uts" 2>/dev/null)" = "$space" ] || continue
      grep -q '^State:.Z' "$pid/status" 2>/dev/null && continue
      kill -KILL "${pid#/proc/}" 2>/dev/null && left=$((left + 1))
    done
  done
  rm -f "$base/run/slurmd-$1.pid"
}

wait_until_down() {
  for _ in $(seq 400); do
    [[ $(scontrol show node "$1") == *State=DOWN* ]] && return
    sleep 0.5
  done
  sinfo -N -l >&2
  exit 1
}

down() {
  for node in "${nodes[@]}"; do
    [ -s "$base/run/slurmd-$node.pid" ] && kill_node "$node"
  done
  for name in slurmctld sshd; do stop "$base/run/$name.pid"; done
  stop /run/munge/munged.pid
  rm -rf --one-file-system "$base"
}

case "${1:-}" in
  up) up ;;
  down) down ;;
  kill-node) kill_node "$2"; wait_until_down "$2" ;;
  *) echo "usage: $0 up|down|kill-node NODE" >&2; exit 2 ;;
esac
