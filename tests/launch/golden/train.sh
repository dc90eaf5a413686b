#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --array=0-4%3
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=4
#SBATCH --job-name=train
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=32768M
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=/runs/grade/logs/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --reservation=night
#SBATCH --signal=USR2@180
#SBATCH --time=480

# setup
export SLURM_EXPORT_ENV=ALL
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
module load apptainer
export PLEXRANK_SUBMITTED_BY=VERSION
export PLEXRANK_GPUS=4
units=/runs/grade/jobs/3f2a1b/train/$SLURM_ARRAY_TASK_ID.units
progress() {
    ( cd /runs/grade && while IFS= read -r record; do
        stat -c "%n %s %y" -- "$record" "$(dirname -- "$record")/last.pt"
    done < "$units" ) 2>/dev/null | cksum
}
before=$(progress)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /runs/grade/logs/%A_%a_%t_log.out --open-mode=append --kill-on-bad-exit=1 --wait=60 --mpi=none apptainer exec --nv --contain --no-home --pwd /runs/grade --mount type=bind,src=/archive,dst=/archive,ro --mount 'type=bind,src=/data/a cohort/images,dst=/data/a cohort/images,ro' --mount 'type=bind,src=/data/a cohort/samples.csv,dst=/data/a cohort/samples.csv,ro' --mount type=bind,src=/weights/resnet18.pth,dst=/weights/resnet18.pth,ro --mount type=bind,src=/runs/grade,dst=/runs/grade /images/plexrank.sif python -I -u -m plexrank train /runs/grade --units "$units"


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
