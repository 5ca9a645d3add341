"""Objects and their rules, without a node or a server: the store, errors, selectors, patches, schema, validation.

A create passes ``schema``, ``defaults``, ``validation``, ``admission``, then ``store``, which gives it a version and
tells the watches.
"""
