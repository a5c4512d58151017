"""
``salesmachine import``: files of rows become messages.

::

    source    bytes of a file or stdin, unzipped
    lines     lines, none of them held beyond a bound
    rows      rows of NDJSON or CSV, each with its line, its end and a digest
    mapping   a row becomes a call of the agent, or a reason why it cannot
    reader    all of the above in a thread, a block at a time
    ledger    follows every row from its reading to its answer; what is settled, in the order of the file
    run       the conductor: reads, sends, watches, stops
    ...       checkpoint, rejects, progress, summary: what is kept and shown

Nothing left of ``run`` awaits anything or knows the agent.
"""
