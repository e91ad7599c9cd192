"""The wire contract: messages, arrays, files, states, verdicts, errors, settings and topology.

Everything that crosses a process or machine boundary is defined here, and nothing here does I/O.
"""
