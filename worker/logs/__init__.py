"""A container's log: from the API server's stream to the job's channel, every byte once.

``attempt`` says which containers' logs are followed, from when and until when. ``reader`` reads one stream and
publishes it, ``stream`` makes chunks of its bytes, ``outbox`` holds them until Redis has them for good, ``publisher``
holds the steps that append them.
"""
