"""The IOC's end: decoder, ledger, receiver."""
