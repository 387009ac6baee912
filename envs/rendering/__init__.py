"""Pictures of the simulation: a ray-cast camera that needs no OpenGL, MuJoCo's own renderer, and MP4 files."""
