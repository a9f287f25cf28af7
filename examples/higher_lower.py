"""A fifth environment in one short file: find a number between 1 and 100 (see docs/environments.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envpool import EnvSpec, Split, Step, UnknownTask, tool


class HigherLower:
    """The task index is the number to find."""

    def reset(self, index: int) -> str:
        """Starts a game."""
        if not 1 <= index <= 100:
            raise UnknownTask(f"higher_lower has no task {index}: take a number between 1 and 100")
        self.secret, self.low, self.high = index, 1, 100
        return "Which number?"

    def step(self, action: str) -> Step:
        """Takes a guess."""
        guess = int(action) if action.isdecimal() and len(action) < 4 else None
        if guess is None:
            return Step("Answer with a number between 1 and 100.", 0.0, False)
        if guess == self.secret:
            return Step("Found.", 1.0, True)
        if guess < self.secret:
            self.low = max(self.low, guess + 1)
        else:
            self.high = min(self.high, guess - 1)
        return Step("Higher." if guess < self.secret else "Lower.", 0.0, False)

    def available_actions(self) -> Sequence[str]:
        """The numbers that are left."""
        return [str(number) for number in range(self.low, self.high + 1)]

    def close(self) -> None:
        """Nothing to free."""


def expert(game: HigherLower) -> Iterator[tuple[str, str]]:
    """Halves what is left."""
    while True:
        middle = (game.low + game.high) // 2
        yield f"It is between {game.low} and {game.high}.", str(middle)


@tool("{number}")
def guess(number: int) -> None:
    """guesses a number"""


SPEC = EnvSpec(
    name="higher_lower",
    version="1",
    summary="find a number between 1 and 100",
    instructions="Find a number between 1 and 100. Each action is a guess; you are told whether to go higher or lower.",
    brief="Find the number.",
    make=HigherLower,
    tasks=lambda split: range(1 + list(Split).index(split), 101, 3),
    max_turns=7,
    success_above=0.5,
    expert=expert,
    place="inline",
    tools=(guess,),
)
