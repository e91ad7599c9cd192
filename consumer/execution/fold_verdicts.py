"""The sentences of a fold's verdict."""

from __future__ import annotations

import json
import signal
from typing import Any

from consumer.jobs import FoldJob
from schemas.datasets import Custom, workflow_elements
from schemas.states import Culprit, FailureKind, Phase
from schemas.verdicts import Verdict, clip

_SENTENCE = 600
_REPORTABLE = {
    FailureKind.EXCEPTION,
    FailureKind.BAD_OUTPUT,
    FailureKind.CRASHED,
    FailureKind.DATA,
}
"""What a fold's own process can know of its end."""


_HINTS = {
    signal.SIGKILL.value: "; the machine may be out of memory",
    signal.SIGBUS.value: "; there may have been no room left for a file that was mapped",
}
"""What a process that died of a signal may have met."""


def over_limit(job: FoldJob, phase: Phase, over: dict[str, Any]) -> Verdict:
    """The fold was killed because it used more than it may."""
    used, limits = over["used"], job.limits
    match over["limit"]:
        case "wall":
            return _verdict(
                job,
                phase,
                FailureKind.TIMEOUT,
                f"timeout: {limits.wall_seconds:.1f} s wall in {phase}",
            )
        case "cpu":
            return _cpu_limit(job, phase)
        case "memory":
            amounts = of_limit(used * 1024, limits.memory_bytes)
            return _verdict(job, phase, FailureKind.MEMORY, f"memory: {amounts} in {phase}")
        case _:
            what = f"crashed: {used} processes and threads, {limits.processes} allowed, in {phase}"
            return _verdict(job, phase, FailureKind.CRASHED, what)


def died(job: FoldJob, phase: Phase, status: int) -> Verdict:
    """The fold's process ended by itself, with this wait status, before it had a result."""
    if status & 0x7F == signal.SIGXCPU:
        return _cpu_limit(job, phase)
    return _verdict(job, phase, FailureKind.CRASHED, death_sentence(status, phase))


def hung_up(job: FoldJob, phase: Phase) -> Verdict:
    """The fold closed its socket, and lives."""
    what = f"crashed: the process closed the connection to its worker in {phase}"
    return _verdict(job, phase, FailureKind.CRASHED, what)


def slot_lost(job: FoldJob, phase: Phase, *, in_reach: bool) -> Verdict:
    """The process that watched the fold was killed. in_reach: a fold's code can do so."""
    what = f"crashed: the process that watches the fold was killed in {phase}"
    if not in_reach:
        verdict = infrastructure(what)
        return verdict.model_copy(update={"phase": phase})
    return _verdict(job, phase, FailureKind.CRASHED, what)


def bad_output(job: FoldJob, phase: Phase, message: str) -> Verdict:
    """Predictions, or other words, that cannot be taken."""
    return _verdict(job, phase, FailureKind.BAD_OUTPUT, f"bad_output: {message}")


def infrastructure(message: str) -> Verdict:
    """We failed."""
    return Verdict(
        phase=Phase.DATA,
        kind=FailureKind.CRASHED,
        culprit=Culprit.INFRASTRUCTURE,
        message=message,
    )


def refused(job: FoldJob) -> Verdict | None:
    """When a job need not be started: a file of its workflow is missing, or a row of `train_is`."""
    manifest = job.manifest
    for element in workflow_elements(manifest.workflow_elements):
        name = f"{element}.py"
        if name not in job.files:
            message = f"the submission has no {name}; its workflow needs {name}"
            return _verdict(job, Phase.TRAIN, FailureKind.EXCEPTION, message)
    outside = job.train_is[(job.train_is < 0) | (job.train_is >= manifest.n_train)]
    if outside.size:
        return Verdict(
            phase=Phase.DATA,
            kind=FailureKind.REJECTED,
            culprit=Culprit.PUBLISHER,
            message=f"train_is: index {outside[0]} is out of range: {manifest.name} has "
            f"{manifest.n_train} training rows",
        )
    return None


def reported(job: FoldJob, phase: Phase, payload: bytes | bytearray) -> Verdict:
    """What a fold says of its own failure, taken with care.

    The phase is the one that the worker saw. Once the submission's code runs, a fault can be
    the organiser's only where the organiser has code, and the publisher's only where its rows are
    split again; and whether a fold was cancelled, lost or over its limits is not for it to say.
    """
    try:
        said = json.loads(payload)
        kind, culprit = FailureKind(said["kind"]), Culprit(said["culprit"])
        message, traceback = str(said["message"]), str(said["traceback"])
        if kind not in _REPORTABLE:
            raise ValueError(kind)
    except (ValueError, TypeError, KeyError, RecursionError):
        return bad_output(job, phase, "the process sent a report that cannot be read")
    if phase is not Phase.DATA and culprit is not _believed(job, phase, kind):
        culprit = Culprit.SUBMISSION
    message = clip(message, _SENTENCE)
    if kind is FailureKind.BAD_OUTPUT:
        message = f"bad_output: {message}"
    elif kind is FailureKind.EXCEPTION and traceback:
        message = f"{message} in {phase}"
    return Verdict(
        phase=phase, kind=kind, culprit=culprit, message=message, traceback=clip(traceback)
    )


def _believed(job: FoldJob, phase: Phase, kind: FailureKind) -> Culprit | None:
    """Whom besides the submission a report may blame once the submission's code runs."""
    if isinstance(job.manifest.split, Custom):
        return Culprit.ORGANISER
    calibrated = "calibrator" in workflow_elements(job.manifest.workflow_elements)
    if calibrated and phase is Phase.TRAIN and kind is FailureKind.DATA:
        return Culprit.PUBLISHER
    return None


def _cpu_limit(job: FoldJob, phase: Phase) -> Verdict:
    what = f"timeout: {job.limits.cpu_seconds:.1f} s CPU in {phase}"
    return _verdict(job, phase, FailureKind.TIMEOUT, what)


def _verdict(job: FoldJob, phase: Phase, kind: FailureKind, message: str) -> Verdict:
    """Before the submission's code runs there is only the organiser's to blame, or ours."""
    culprit = Culprit.SUBMISSION
    if phase is Phase.DATA:
        custom = isinstance(job.manifest.split, Custom)
        culprit = Culprit.ORGANISER if custom else Culprit.INFRASTRUCTURE
    return Verdict(phase=phase, kind=kind, culprit=culprit, message=message)


def death_sentence(status: int, phase: Phase) -> str:
    """Of what a process died, from its wait status."""
    number = status & 0x7F
    if number == 0:
        return f"crashed: the process left with exit code {status >> 8} in {phase} without a result"
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"crashed: {name} in {phase}{_HINTS.get(number, '')}"


def of_limit(used: float, limit: float) -> str:
    """`4.0 of 4.0 GiB`."""
    unit, size = ("GiB", 1 << 30) if limit >= 1 << 30 else ("MiB", 1 << 20)
    return f"{used / size:.1f} of {limit / size:.1f} {unit}"
