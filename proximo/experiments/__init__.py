"""The paper's tables and figures, run again: grids as data, their runner, statistics and plots."""
