"""A failure's cause, who can mend it and what to do, by the table of causes."""

import re
from collections.abc import Iterable
from typing import Final

from dispatcher.events import ClusterEvent
from dispatcher.status import FailureReason
from worker.rules.cause_table import CAUSES, FailureCause


def cause_of(reason: FailureReason, said: str) -> FailureCause:
    """Return the cause of a failure for which this was said, also where it was said with its advice."""
    return next(cause for cause in CAUSES if cause.reason is reason and cause.pattern.search(said))


def advised(reason: FailureReason, said: str) -> str:
    """Return what was said, and then what to do."""
    advice = cause_of(reason, said).advice
    return f"{said.rstrip('. ')}. {advice}" if advice else said


#: The warnings that say why a pod fails for this reason, where its status does not.
_EXPLAINED_BY: Final = {
    FailureReason.IMAGE_PULL: frozenset({"FailedToRetrieveImagePullSecret"}),
    FailureReason.START_TIMEOUT: frozenset(
        {"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "NetworkNotReady"}
    ),
}


def explained(reason: FailureReason, message: str, warnings: Iterable[ClusterEvent]) -> str:
    """Return the message of a failure with what the cluster's warnings say of its cause, and the advice for that.

    ``warnings``: the last one comes last. An intent is recorded before they are read, so this comes at the end.
    """
    kinds = _EXPLAINED_BY.get(reason, frozenset())
    if re.search(r'Back-off pulling image "[^"]*"\. ', message):  # an older kubelet, which does not repeat why
        kinds |= {"Failed"}
    found = [warning.message for warning in warnings if warning.reason in kinds]
    if not found or found[-1] in message:
        return message
    said = message.removesuffix(cause_of(reason, message).advice).rstrip(". ")
    return advised(reason, f"{said}: {found[-1]}")
