#!/usr/bin/env bash
# A real SLURM of one node, on loopback, for tests; by hand:
#
#     eval "$(tests/slurm/cluster.sh start [FOLDER])"    # sets SLURM_CONF: sbatch, squeue work
#     tests/slurm/cluster.sh stop [FOLDER]
#
# Needs Debian's slurmctld, slurmd, slurm-client and munge, and root (slurmd starts jobs as their
# users). Key, configuration, state and logs lie in FOLDER (/tmp/brainchop-slurm by default);
# nothing in /etc is read or changed, and the ports are not SLURM's own.
set -euo pipefail

folder=$(realpath -m "${2:-/tmp/brainchop-slurm}")
host=$(hostname -s)

missing() {
    for command in munged slurmctld slurmd sbatch; do
        PATH=$PATH:/usr/sbin command -v "$command" > /dev/null || echo "$command"
    done
    [ "$(id -u)" = 0 ] || echo 'root'
}

# Whether the kernel lets us make groups of version 1 that limit memory; of version 2 it does only
# under systemd. Without, SLURM itself looks at what jobs use, and kills.
has_cgroups() {
    local base
    for kind in memory cpuset freezer; do
        base=/sys/fs/cgroup/$kind
        mkdir "$base/brainchop-try" 2> /dev/null && rmdir "$base/brainchop-try" || return 1
    done
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

configure() {
    local enforce tracking='proctrack/linuxproc' tasks='task/none' gather='jobacct_gather/linux'
    # Without cgroups: looked at each 2 seconds.
    enforce='JobAcctGatherParams=OverMemoryKill'
    if has_cgroups; then
        tracking='proctrack/cgroup' tasks='task/cgroup,task/affinity' enforce=''
    fi
    cat > "$folder/slurm.conf" << END
ClusterName=brainchop
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
PlugStackConfig=$folder/none.conf
ProctrackType=$tracking
TaskPlugin=$tasks
JobAcctGatherType=$gather
JobAcctGatherFrequency=task=2
$enforce
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/completed.txt
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
MinJobAge=600
KillWait=15
InactiveLimit=0
ReturnToService=2
RebootProgram=/bin/false
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(memory_mb) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=2000
END
    cat > "$folder/cgroup.conf" << END
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainCores=yes
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
END
    touch "$folder/none.conf"
}

# A little less than there is: SLURM drains a node that has less than was promised.
memory_mb() {
    awk '/^MemTotal/ {print int($2 / 1024 * 0.95)}' /proc/meminfo
}

start() {
    local wanting
    wanting=$(missing | tr '\n' ' ')
    if [ -n "$wanting" ]; then
        echo "cluster.sh: missing: $wanting" >&2
        exit 3
    fi
    mkdir -p "$folder"/{state,spool}
    chmod 755 "$folder"
    (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
    configure
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
        --seed-file="$folder/munge.seed" >&2
    slurmctld -c -f "$folder/slurm.conf" >&2
    slurmd -c -f "$folder/slurm.conf" >&2
    export SLURM_CONF=$folder/slurm.conf
    for _ in $(seq 100); do
        if [ "$(sinfo -h -o %T 2> /dev/null)" = idle ]; then
            echo "export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.2
    done
    echo "cluster.sh: the node is not idle after 20 s: see $folder/*.log" >&2
    tail -n 5 "$folder"/*.log >&2
    stop
    exit 1
}

stop() {
    local pid
    if [ -e "$folder/slurm.conf" ]; then
        SLURM_CONF=$folder/slurm.conf timeout 20 scancel --me 2> /dev/null || true
        for _ in $(seq 50); do
            [ -n "$(SLURM_CONF=$folder/slurm.conf timeout 5 squeue -h 2> /dev/null)" ] || break
            sleep 0.2
        done
    fi
    for daemon in slurmd slurmctld munged; do
        pid=$(cat "$folder/$daemon.pid" 2> /dev/null) || continue
        kill "$pid" 2> /dev/null || continue
        for _ in $(seq 50); do
            kill -0 "$pid" 2> /dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2> /dev/null || true
    done
    rm -f "$folder"/*.pid "$folder"/munge.*
}

PATH=$PATH:/usr/sbin
case "${1:-}" in
    start) start ;;
    stop) stop ;;
    missing) missing ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
