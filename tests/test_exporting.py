"""Export: every format, what it leaves out, redaction; llmsess' own gives the same again."""
