"""One file a kind of route; `contract` says what each of them answers."""
