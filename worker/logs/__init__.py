"""A container's log: from the API server's stream to the job's channel, every byte once.

``attempt`` says which containers' logs are followed, from when and until when; each is a ``container_log``. Its
``reader`` reads one stream after the other, ``stream`` makes chunks of the bytes, ``outbox`` holds them until Redis has
them for good, ``publisher`` appends them.
"""
