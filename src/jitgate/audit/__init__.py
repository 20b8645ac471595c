"""6 record: what happened, as entries of a Merkle log that can be checked offline.

`shapes` and `events` say what can be recorded, `log` makes entries of it, `tree` hashes them, `checkpoint` is the
signed statement about the tree, `verify` and `signed` check a whole log, `show` prints an entry, `query` asks for some.

What is trusted for what:

- the leaf bytes, and only as far as a checkpoint reaches that the log key signed and that is kept where whoever can
  write the database cannot: then no entry up to its size was edited, removed, added or moved;
- personal texts (names, addresses, reasons, key ids, words of checks) only if their commitment in the leaf matches;
- columns for searching: nothing; `verify` compares them with the leaf;
- that an entry tells the truth: the service that wrote it. What it left out about certificates shows in the difference
  to the signer's own list, which a taken service cannot write.
"""
