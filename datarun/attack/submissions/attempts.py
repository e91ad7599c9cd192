"""What every theft is written with: a line for each attempt, and STOLEN where it succeeded."""


def attempt(what, take):
    """Print what came of it; returns what was taken."""
    try:
        got = take()
    except Exception as error:
        print(f"refused {what}: {error!r}"[:200])
        return None
    if got:
        print(f"STOLEN {what}: {got!r}"[:200])
    else:
        print(f"nothing {what}")
    return got
