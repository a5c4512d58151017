"""
``salesmachine spool``: look at the spool of agents, deliver it, export it, purge it.

Each command has its own module. `directories` finds and describes the directories below the path; `reading` reads
their messages with progress; `tables` prints rows for a terminal or a program.
"""
