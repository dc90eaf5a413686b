#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --cpus-per-task=4
#SBATCH --job-name=rank
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=16384M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/runs/grade/logs/%j_0_log.out
#SBATCH --partition=cpu
#SBATCH --requeue
#SBATCH --reservation=night
#SBATCH --signal=USR2@180
#SBATCH --time=120

# setup
export SLURM_EXPORT_ENV=ALL
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
module load apptainer
export PLEXRANK_SUBMITTED_BY=VERSION
export PLEXRANK_GPUS=0
units=/runs/grade/jobs/3f2a1b/rank/0.units
progress() {
    ( cd /runs/grade && while IFS= read -r record; do
        stat -c "%n %s %y" -- "$record" "$(dirname -- "$record")/last.pt"
    done < "$units" ) 2>/dev/null | cksum
}
before=$(progress)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /runs/grade/logs/%j_%t_log.out --open-mode=append --kill-on-bad-exit=1 --wait=60 --mpi=none /opt/plexrank/bin/python -P -u -m plexrank rank /runs/grade


# teardown
code=$?
job=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
idle=/runs/grade/jobs/idle/$job
if [ "$(progress)" != "$before" ]; then rm -f "$idle"; fi
if [ $code -eq 75 ]; then
    if [ "${SLURM_RESTART_COUNT:-0}" -ge 20 ]; then
        echo "plexrank: stopped, and started again 20 times; raise time_min or max_requeues"
    elif [ -e "$idle" ]; then
        echo "plexrank: stopped twice before anything was saved; raise time_min"
    else
        [ "$(progress)" != "$before" ] || : > "$idle"
        echo "plexrank: stopped with more to do; the job is run again"
        scontrol requeue "$job" && sleep 300
    fi
fi
exit $code
