"""Objects and their rules, without a node or a server: the store, errors, selectors, patches, schema, validation.

A create passes ``schema``, ``defaults``, ``validation``, ``admission``, then ``store``, which gives it a version and
tells the watches. ``patching`` changes what is there, ``selectors`` choose among it, ``events`` tell of it. ``paths``
says what a request is about, ``errors`` what is answered where it cannot be; ``quantity`` and ``clock`` read and write
the API's numbers and times.
"""
