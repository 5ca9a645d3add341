"""One job that this worker owns.

``controller`` is its life: *claim, launch, follow, finish, forget*. Beside it:

    owned_record    the copy of the record, and the only way to change it: fenced steps
    pod             the pod of the present attempt: present, gone, to be deleted
    launcher        the pod made, or the one of that name adopted
    finisher        what an attempt's end is made of: logs, warnings, return value
    return_value    the return value, out of the sidecar's log
    recent_results  results of the last minute, in case that Redis loses them
"""
