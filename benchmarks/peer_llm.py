"""Runs inside an environment that has llm 0.36: times its log_to_db, and makes the database its `logs` command reads."""

from __future__ import annotations

import statistics
import sys
import time


def main(path: str, turns: int) -> None:
    import llm
    import sqlite_utils
    from llm.migrations import migrate

    class Constant(llm.Model):
        model_id = "constant"

        def execute(self, prompt, stream, response, conversation):  # type: ignore[no-untyped-def]
            response.set_usage(input=len(prompt.prompt.split()), output=len(prompt.prompt.split()))
            return [prompt.prompt]

    db = sqlite_utils.Database(path)
    migrate(db)
    prompt = "why is the sky blue when the sun is white and the night is black " * 3
    times = []
    model = Constant()
    for i in range(turns):
        if i % 20 == 0:
            conversation = model.conversation()
        began = time.perf_counter()
        response = conversation.prompt(prompt, stream=False)
        response.text()
        response.log_to_db(db)
        times.append(time.perf_counter() - began)
    print(statistics.median(times))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
