"""One job that this worker owns.

``controller`` is its life: *claim, launch, follow, finish, forget*. From above:

    controller      looks at the record and the pod, and has done what is next; follows the pod itself
    last_resort     what is done where this worker itself fails at a step
    launcher        from the claim to the pod in the record; ``pod_creation`` makes the pod, or adopts it
    finisher        from an attempt's outcome on; ``result`` is made there, with the ``return_value``
    last_lines      of containers that failed and whose log nobody asked for
    recent_results  results of the last minute, in case Redis loses them
    owned_job       what the phases share: the record, the pod, the logs, and the news of all three
    owned_record    the copy of the record, and the only way to change it: fenced steps
    pod             the pod of the present attempt: there, gone, to be deleted
"""
