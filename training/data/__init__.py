"""Demonstrations on disk, in LeRobotDataset v3: `writer.DatasetWriter`, `reader.Dataset`, `check.check_format`."""
