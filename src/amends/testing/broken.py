"""The failure of everything that checks promises."""


class BrokenPromise(AssertionError):
    """A run broke a promise. The message names it and tells how it came about.

    `promise` is its name, `path` the story's for `Scenario.story`, `mermaid` the story as a sequence diagram; the
    last two are empty where the evidence came from elsewhere than an exploration.
    """

    def __init__(self, message: str, *, promise: str = "", path: str = "", mermaid: str = "") -> None:
        super().__init__(message)
        self.promise = promise or message.partition(":")[0]
        self.path = path
        self.mermaid = mermaid
