"""What a worker of the tests has loaded before it starts."""

import anthropic  # noqa: F401
import genai_prices  # noqa: F401
import openai  # noqa: F401

import llmsess.batches
import llmsess.cli.batch
import llmsess.cli.output  # noqa: F401
