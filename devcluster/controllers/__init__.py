"""Does what scheduler and controller manager do: places pods on ``nodes``, and deletes, evicts and forgets them."""
