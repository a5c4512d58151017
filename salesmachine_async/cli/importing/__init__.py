"""
``salesmachine import``: send files of rows as messages.

::

    source    bytes of a file or stdin, uncompressed, as UTF-8
    lines     lines of bounded length
    rows      rows of NDJSON or CSV, each with its line, its end and a digest
    formats   records of other SDKs (--from) as messages
    mapping   a row becomes calls of the agent, or a reason for its rejection
    reader    all of the above in a thread, piece by piece
    ledger    the state of every row from reading to answer, settled in the order of the file
    importer  reads, sends, watches, stops
    ...       checkpoint, rejects, progress, summary: what is kept and shown

Modules above ``importer`` neither await nor use the agent.
"""
