"""The models the back ends are compared on; Warp compiles kernels for each, so they are few."""

import mujoco

from fermo.assets.scenes.so101 import so101_scene

PENDULUM = """
<mujoco>
  <option timestep="0.004" integrator="implicitfast"/>
  <worldbody>
    <body name="upper"><joint name="shoulder" damping="0.05" armature="0.01"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" mass="0.4" contype="0" conaffinity="0"/>
      <body name="lower" pos="0.3 0 0"><joint name="elbow" axis="0 1 0" damping="0.05"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" mass="0.3" contype="0" conaffinity="0"/>
        <site name="tip" pos="0.3 0 0"/>
      </body>
    </body>
  </worldbody>
  <actuator><position joint="shoulder" kp="3"/><motor joint="elbow"/></actuator>
  <sensor><framepos objtype="site" objname="tip"/><jointvel joint="elbow"/></sensor>
</mujoco>
"""
MODELS = {"pendulum": mujoco.MjModel.from_xml_string(PENDULUM), "so101": so101_scene().compile()}
"""One without contacts, and the arm with its cube."""
