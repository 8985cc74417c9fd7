"""Sound as images: a log-mel front end in integers, and folders of WAV files."""
