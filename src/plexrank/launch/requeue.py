"""What a job's script does around its work so that a job that was stopped is run again.

A stage that gets a signal to stop saves its progress and exits 75. Then the script, which runs on the host where
``scontrol`` is, requeues its own job: at most so many times, and only while there is progress. Once in a row a start
may come to nothing, since a job can be preempted right after it began.
"""

from __future__ import annotations

import shlex

from plexrank.rundir import RunDir

STOPPED = 75


def lines_before(rundir: RunDir) -> list[str]:
    """Shell that remembers the state of the units listed in ``$units``: their done-records and checkpoints."""
    return [
        "progress() {",
        f"    ( cd {shlex.quote(str(rundir.path))} && while IFS= read -r record; do",
        '        stat -c "%n %s %y" -- "$record" "$(dirname -- "$record")/last.pt"',
        '    done < "$units" ) 2>/dev/null | cksum',
        "}",
        "before=$(progress)",
    ]


def lines_after(rundir: RunDir, max_requeues: int) -> list[str]:
    """Shell that requeues the job if it should be, and ends with the exit code of the work."""
    return [
        "code=$?",
        "job=$SLURM_JOB_ID",
        '[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID',
        f"idle={shlex.quote(str(rundir.idle))}/$job",
        'if [ "$(progress)" != "$before" ]; then rm -f "$idle"; fi',
        f"if [ $code -eq {STOPPED} ]; then",
        f'    if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {max_requeues} ]; then',
        f'        echo "plexrank: stopped, and started again {max_requeues} times; raise time_min or max_requeues"',
        '    elif [ -e "$idle" ]; then',
        '        echo "plexrank: stopped twice before anything was saved; raise time_min"',
        "    else",
        '        [ "$(progress)" != "$before" ] || : > "$idle"',
        '        echo "plexrank: stopped with more to do; the job is run again"',
        '        scontrol requeue "$job" && sleep 300',
        "    fi",
        "fi",
        "exit $code",
    ]
