"""What is proved of a policy's slope: bounds, the certificate, its checker, and the search that tries to refute it."""
