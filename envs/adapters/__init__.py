"""The batched environments as other libraries want them."""
