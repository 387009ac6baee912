"""Arms for the controller tests, written here so that no download stands before a test."""

from __future__ import annotations

import mujoco
import numpy as np

ARM = """
<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <default><geom type="capsule" size="0.02" density="900"/></default>
  <worldbody>
    <body name="mount" pos="0.1 -0.2 0.3" quat="0.9 0.1 -0.3 0.2">
      <geom fromto="0 0 0 0 0 0.1"/>
      <body name="pan" pos="0 0.02 0.1" quat="0.8 0.2 0.1 -0.4">
        <joint name="pan" axis="0.1 0.2 1" pos="0.01 0.02 0" range="-2.5 2.5"/>
        <geom fromto="0 0 0 0.05 0 0.2"/>
        <body name="rail" pos="0.05 0 0.2">
          <joint name="rail" type="slide" axis="1 0.3 0.2" range="-0.1 0.25"/>
          <geom fromto="0 0 0 0.2 0 0"/>
          <body name="bracket" pos="0.2 0 0" quat="0.7 0 0.7 0.1">
            <geom type="box" size="0.02 0.03 0.01"/>
            <body name="elbow" pos="0 0.03 0">
              <joint name="elbow" axis="0 1 0" ref="0.4" range="-1.8 2.2"/>
              <geom fromto="0 0 0 0 0 0.25"/>
              <body name="branch" pos="0.03 0 0.1"><geom type="sphere" size="0.04"/></body>
              <body name="wrist" pos="0 0 0.25" quat="0.5 0.5 -0.5 0.5">
                <joint name="wrist" axis="0 0 1" limited="false"/>
                <geom fromto="0 0 0 0 0.06 0.1"/>
                <site name="tool" pos="0.01 0.05 0.1" quat="0.6 -0.2 0.7 0.1"/>
              </body>
            </body>
          </body>
        </body>
      </body>
    </body>
    <site name="bolted" pos="1 0 0"/>
  </worldbody>
</mujoco>
"""
"""Tilted axes, offset anchors, a slide, a welded bracket, a side branch, a reference position, an endless wrist."""

SEVEN_AXES = """
<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <default><geom type="capsule" size="0.03" density="900"/><joint range="-2.6 2.6"/></default>
  <worldbody>
    <body pos="0 0 0.3"><joint name="a" axis="0 0 1"/><geom fromto="0 0 0 0 0 0.1"/>
      <body pos="0 0 0.1"><joint name="b" axis="0 1 0"/><geom fromto="0 0 0 0 0 0.2"/>
        <body pos="0 0 0.2"><joint name="c" axis="0 0 1"/><geom fromto="0 0 0 0 0 0.2"/>
          <body pos="0 0 0.2"><joint name="d" axis="0 -1 0"/><geom fromto="0 0 0 0 0 0.2"/>
            <body pos="0 0 0.2"><joint name="e" axis="0 0 1"/><geom fromto="0 0 0 0 0 0.2"/>
              <body pos="0 0 0.2"><joint name="f" axis="0 1 0"/><geom fromto="0 0 0 0 0 0.08"/>
                <body pos="0 0 0.08"><joint name="g" axis="0 0 1"/><geom fromto="0 0 0 0 0 0.05"/>
                  <site name="tool" pos="0 0.02 0.06"/>
                </body></body></body></body></body></body></body>
  </worldbody>
</mujoco>
"""
"""A shoulder, an elbow and a wrist with one axis to spare."""


def compile_model(xml: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(xml)


def site_pose(model: mujoco.MjModel, qpos: np.ndarray, site: str = "tool") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position, rotation and Jacobian (linear rows first) as MuJoCo sees them."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    index = model.site(site).id
    jacobian = np.zeros((6, model.nv))
    mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], index)
    return data.site_xpos[index].copy(), data.site_xmat[index].reshape(3, 3).copy(), jacobian
