"""The two kinds of error a user can meet; the command turns each into one line and exit status 2."""


class UserError(Exception):
    """Something the user can mend: the message says what is wrong and what to do, in one line."""


class EnvironmentFault(UserError):
    """An environment raised, or returned something unusable (NaN, a wrong shape).

    The message names the environment's index, the step and the last action; the environment's own
    exception, where there is one, is the `__cause__`.
    """
