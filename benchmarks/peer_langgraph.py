"""Runs inside an environment that has langgraph and its SQLite saver: the size of its file after a conversation."""

from __future__ import annotations

import json
import os
import sys


def main(path: str, messages: list[list[str]]) -> None:
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, MessagesState, StateGraph

    replies = iter([content for role, content in messages if role == "assistant"])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [("assistant", next(replies))]})
    graph.add_edge(START, "model")
    graph.add_edge("model", END)
    with SqliteSaver.from_conn_string(path) as saver:
        talk = graph.compile(checkpointer=saver)
        for _, prompt in messages[::2]:
            talk.invoke({"messages": [("user", prompt)]}, {"configurable": {"thread_id": "1"}})
        saver.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    print(os.path.getsize(path))


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
