"""How far a pod has come, from what its containers show: pure, as the kubelet's `getPhase` is."""

from devcluster.views import PodView


def phase_of(view: PodView, *, has_run: bool) -> str:
    """`Pending` or `Running`; the two final phases come with the end of the pod, not with that of its containers."""
    untouched = any("waiting" in one.state and not one.last_state for one in view.of_role("main"))
    return "Running" if has_run and not untouched else "Pending"


def outcome_stands(view: PodView, restart_policy: str) -> bool:
    """Whether no container will run again, so that how the pod ends is decided."""
    if any(one.is_running for one in view.of_role("sidecar")):
        return False
    inits = view.of_role("init")
    if restart_policy == "Never" and any(one.has_terminated and not one.has_succeeded for one in inits):
        return True
    mains = view.of_role("main")
    final = restart_policy == "Never" or (restart_policy == "OnFailure" and all(one.has_succeeded for one in mains))
    return final and all(one.has_terminated for one in mains)


def outcome_failed(view: PodView) -> bool:
    """Whether a pod whose containers have ended has failed: sidecars do not count."""
    counted = view.of_role("init", "main")
    return any(container.has_terminated and not container.has_succeeded for container in counted)
