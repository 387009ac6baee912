"""One file a family, and in a peer's file no import of fermo but the protocol: it may run in the peer's own Python."""
