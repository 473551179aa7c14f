#!/usr/bin/env bash
# A SLURM of one node on this machine, for tests: controller, node and authentication, all in one folder, as root.
#     tests/slurm_node.sh start FOLDER    prints nothing and ends when jobs can be submitted; FOLDER/slurm.conf is for $SLURM_CONF,
#                                         FOLDER/bin for the front of $PATH
#     tests/slurm_node.sh stop FOLDER
# Needs Debian's slurm-wlm and munge. Nothing outside FOLDER is written; ports are free ones.
set -euo pipefail
action=$1 folder=$2
export PATH="$PATH:/usr/sbin:/sbin" SLURM_CONF="$folder/slurm.conf"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start() {
  for program in munged slurmctld slurmd sbatch squeue; do
    command -v $program >/dev/null || { echo "$program is not installed (Debian: slurm-wlm, munge)" >&2; exit 1; }
  done
  [ "$(id -u)" = 0 ] || { echo "slurmd must be started as root" >&2; exit 1; }
  mkdir -p "$folder/state" "$folder/spool" "$folder/bin"
  chmod 700 "$folder"
  head -c 1024 /dev/urandom > "$folder/munge.key"
  chmod 400 "$folder/munge.key"
  local node memory
  node=$(hostname -s)
  memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
  # Snakemake takes SLURM_CONF out of the environment of a job before it calls srun: this one puts it back in.
  printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$folder/bin/srun"
  chmod +x "$folder/bin/srun"
  cat > "$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MinJobAge=86400
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=$memory State=UNKNOWN
PartitionName=local Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
  slurmctld
  slurmd
  for _ in $(seq 100); do
    if sinfo --noheader --format=%t 2>/dev/null | grep -q idle; then return; fi
    sleep 0.2
  done
  echo "the node did not become idle: $(tail -n 3 "$folder/slurmctld.log" "$folder/slurmd.log" 2>/dev/null | tr '\n' ' ')" >&2
  exit 1
}

stop() {
  scancel --state=PENDING --state=RUNNING --user=root 2>/dev/null || true
  for name in slurmd slurmctld munged; do
    if [ -f "$folder/$name.pid" ]; then kill "$(cat "$folder/$name.pid")" 2>/dev/null || true; fi
  done
}

$action
