"""What the library promises about keys, prompts and answers, one file per subject; `rows.py` is the list of what is demanded."""
