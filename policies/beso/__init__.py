"""Score-based diffusion policies conditioned on goals (BESO, Reuss et al., RSS 2023), and flow matching beside them."""
