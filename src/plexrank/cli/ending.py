"""How a command ends: one message and an exit code, whatever happened."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import traceback
import warnings
from typing import NoReturn

from plexrank.cli import begin, compute, look
from plexrank.cli.app import StopRequestedError, app, show, stop
from plexrank.errors import PlexrankError
from plexrank.machine.allocator import share_one_arena
from plexrank.machine.processes import several_started_by

BUG_EXIT_CODE, STOPPED_EXIT_CODE = 70, 75
_NO_ROOM = re.compile("failed to map segment(?!.*not permitted)|cannot allocate memory", re.IGNORECASE)
COMPLETION = "_PLEXRANK_COMPLETE"
"""Variable by which the completion of a shell asks; see ``completing``."""
VERBS = (begin, compute, look)
"""Importing these declares the verbs, in the order in which --help lists them."""


def main() -> NoReturn:
    """Run the command line; every error that a user can fix ends here as one message and an exit code."""
    share_one_arena()
    _open_what_is_closed()
    _escape_what_cannot_be_shown()
    code = _run_command()
    if several_started_by():  # threads of torch.distributed may outlive their group and abort the teardown
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Open the null device in the place of closed standard streams, whose numbers the next files would get."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  until the end


def _escape_what_cannot_be_shown() -> None:
    """What the encoding of the output lacks, and bytes of names that are not UTF-8, are printed escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run_command() -> int:
    if COMPLETION in os.environ:
        from plexrank.cli.completing import get_ready

        get_ready()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, stop)
    try:
        try:
            app(prog_name="plexrank")
        finally:
            for number in (signal.SIGTERM, signal.SIGUSR2):  # Slurm and Apptainer send them again while it ends
                signal.signal(number, signal.SIG_IGN)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except PlexrankError as error:
        _complain(str(error))
        return error.exit_code
    except StopRequestedError:
        sys.unraisablehook = lambda _: None  # what was stopped half made says so when it is taken apart
        warnings.simplefilter("ignore")
        _complain("stopped; run the same command again to continue")
        return STOPPED_EXIT_CODE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}; fix that and run the same command again to continue")
        return PlexrankError.exit_code
    except MemoryError:
        _complain("there is not enough memory; allow more, then run the same command again to continue")
        return PlexrankError.exit_code
    except Exception as error:  # noqa: BLE001  the one boundary
        if isinstance(error, ImportError) and _NO_ROOM.search(str(error)):
            _complain(f"a library cannot be loaded ({error}); allow more memory, then run the same command again")
            return PlexrankError.exit_code
        traceback.print_exc()
        _complain("this is a bug in plexrank; please report it with the lines above")
        return BUG_EXIT_CODE
    return 0


def _complain(message: str) -> None:
    for line in message.splitlines():
        show(f"error: {line}", sys.stderr)
