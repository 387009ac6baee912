"""What is run on a machine with an NVIDIA GPU: ``run.sh``, and the short training that it ends with."""
