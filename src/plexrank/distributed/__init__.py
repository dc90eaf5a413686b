"""Which process am I, and what the processes say to each other.

The only importer of ``torch.distributed``. ``group`` says who a process is and adds up what several computed,
``rendezvous`` is how they find each other under srun, ``messages`` how values travel between them.
"""

from plexrank.distributed.group import (
    ProcessInfo,
    SharesSums,
    all_reduce_sum,
    any_process,
    barrier,
    copy_buffers_of_first,
    from_first,
    on_first,
    process_group,
    unwrap,
    wrap,
)
from plexrank.distributed.rendezvous import TIMEOUT
from plexrank.distributed.rendezvous import meet as _meet

__all__ = [
    "TIMEOUT",
    "ProcessInfo",
    "SharesSums",
    "_meet",
    "all_reduce_sum",
    "any_process",
    "barrier",
    "copy_buffers_of_first",
    "from_first",
    "on_first",
    "process_group",
    "unwrap",
    "wrap",
]
