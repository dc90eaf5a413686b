"""The scripts of a dry run, with one that submits them as ``plexrank run`` would and leaves the same record."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from plexrank.launch.options import variables_of
from plexrank.launch.profile import Profile
from plexrank.launch.script import Job, resources_of
from plexrank.launch.slurm import ANSWERS, NEVER_PASSED, SET_IN_A_JOB, USERS
from plexrank.launch.submitted import Graph, SubmittedJob, write_graph
from plexrank.rundir import RunDir, write_text

BEGUN, COMPLETE = "begun.json", "complete.json"
PLACEHOLDER = 10**15
"""Id of the first job in the record until Slurm gives it one; far above any."""

SHELL = r"""#!/bin/bash
# Submits the jobs of a dry run, each after the one before, and leaves their record, which plexrank status, cancel and
# run read.
set -uo pipefail
left_out='@NEVER_PASSED@'
[ -z "${SLURM_JOB_ID:-}" ] || left_out+='|@SET_IN_A_JOB@' # the settings of a job around it are not for these
unset $(compgen -e | grep -xE "$left_out" | grep -vxE '@USERS@')
here=@HERE@ record=@RECORD@ run=@RUN@
if [ ! -e "$here/@COMPLETE@" ]; then
    echo "submitted before: plexrank status $run" >&2
    exit 1
fi
if ! cmp -s "$record" "$here/before.json" && { [ -e "$record" ] || [ -e "$here/before.json" ]; }; then
    echo "jobs were submitted since the dry run: make it again" >&2
    exit 1
fi
ids=() on=(@ON@) stopped=
give_up() { # why, and whether there may be a job whose id is not known
    local left=${2:-}
    trap '' INT TERM HUP
    echo "$1" >&2
    rm -f -- "$record.tmp"
    [ ${#ids[@]} -eq 0 ] || scancel ${on[@]+"${on[@]}"} "${ids[@]}" || left=yes
    if [ -n "$left" ]; then
        echo "jobs may be left; plexrank cancel $run ends them" >&2
    elif [ -e "$here/before.json" ]; then
        cp -- "$here/before.json" "$record"
    else
        rm -f -- "$record"
    fi
    exit 1
}
trap 'stopped=yes' INT TERM HUP # which sbatch ignores, so that what it submits is known
submit() { # what it is called, then the command
    local label=$1 said found=
    shift
    said=$(trap '' INT TERM HUP; "$@") || give_up "$label: Slurm refuses it; what was submitted before is cancelled"
    for answer in @ANSWERS@; do
        [ -n "$found" ] || found=$(grep -xE "($answer)[[:space:]]*" <<<"$said" | tail -n 1)
    done
    found=${found#Submitted batch job } found=${found%%[[:space:]]*}
    [ -n "$found" ] || give_up "$label: expected the id of a job, sbatch said: $said" yes
    id=${found%%;*}
    ids+=("$id")
    [ "$found" = "$id" ] || on=(--clusters="${found#*;}")
    [ -z "$stopped" ] || give_up "stopped: what was submitted is cancelled"
    echo "$label: job $id"
}
cp -- "$here/@BEGUN@" "$record"
@STEPS@
edits=() number=0
for id in "${ids[@]}"; do
    edits+=(-e "s/\"$((@PLACEHOLDER@ + number))\"/\"$id\"/")
    number=$((number + 1))
done
cluster=${on[*]-} cluster=${cluster#--clusters=}
sed "${edits[@]}" -e "s/\"cluster\": \"[^\"]*\"/\"cluster\": \"$cluster\"/" "$here/@COMPLETE@" > "$record.tmp" ||
    give_up "$record: cannot be written; what was submitted is cancelled"
for id in "${ids[@]:0:@HELD@}"; do
    scontrol ${on[@]+"${on[@]}"} release "$id" || give_up "job $id: cannot be released; what was submitted is cancelled"
done
[ -z "$stopped" ] || give_up "stopped: what was submitted is cancelled"
mv -- "$record.tmp" "$record" || give_up "$record: cannot be written; what was submitted is cancelled"
trap - INT TERM HUP
rm -f -- "$here/@COMPLETE@"
echo "follow it: plexrank status $run --watch"
"""


def write_submit_script(
    jobs: Sequence[Job], graph: Graph, profile: Profile, study: str, rundir: RunDir, folder: Path
) -> None:
    """Write ``submit.sh`` and the records that it completes.

    Args:
        jobs: in their order, scripts written.
        graph: of no job yet.
        profile: of the cluster.
        study: its name.
        rundir: whose they are.
        folder: with the scripts.
    """
    if not jobs:
        write_text(folder / "submit.sh", "#!/bin/bash\necho 'nothing to submit: all is done'\n")
        return
    first = [job for job in jobs if job.name == jobs[0].name]
    steps, submitted = [], []
    before: list[int] = []
    for number, job in enumerate(jobs):
        if number and job.name != jobs[number - 1].name:
            before = [position for position in range(number) if jobs[position].name == jobs[number - 1].name]
        hidden = [part for name in variables_of(resources_of(job, profile).options()) for part in ("-u", name)]
        options = [f"--job-name={job.full_name(study, graph.token)}", *["--hold"] * (job in first)]
        command = shlex.join(["env", *hidden, "sbatch", "--parsable", *options])
        after = f' "--dependency=afterok:{":".join(f"${{ids[{position}]}}" for position in before)}"' if before else ""
        script = shlex.quote(str(folder / f"{job.label}.sh"))
        steps.append(f'submit {job.label} {command} ${{on[@]+"${{on[@]}}"}}{after} {script}')
        submitted.append(
            SubmittedJob(
                name=job.name,
                stage=job.stage,
                job_id=str(PLACEHOLDER + number),
                is_array=job.is_array,
                shares=job.shares,
                after=tuple(str(PLACEHOLDER + position) for position in before),
            )
        )
    text = SHELL.replace("@STEPS@", "\n".join(steps))
    for name, value in {
        "HERE": shlex.quote(str(folder)),
        "RECORD": shlex.quote(str(rundir.graph)),
        "RUN": shlex.quote(str(rundir.path)),
        "BEGUN": BEGUN,
        "COMPLETE": COMPLETE,
        "PLACEHOLDER": str(PLACEHOLDER),
        "HELD": str(len(first)),
        "ON": shlex.quote(f"--clusters={graph.cluster}") if graph.cluster else "",
        "ANSWERS": shlex.join(ANSWERS),
        "NEVER_PASSED": NEVER_PASSED,
        "SET_IN_A_JOB": SET_IN_A_JOB,
        "USERS": USERS,
    }.items():
        text = text.replace(f"@{name}@", value)
    write_graph(folder / BEGUN, graph)
    write_graph(folder / COMPLETE, graph.model_copy(update={"jobs": tuple(submitted), "released": True}))
    (folder / "before.json").unlink(missing_ok=True)
    if rundir.graph.is_file():
        write_text(folder / "before.json", rundir.graph.read_text(encoding="utf-8"))
    write_text(folder / "submit.sh", text)
