"""Vectors of environments that Proximo makes, and the processes that step them.

A worker process imports from here, so importing costs neither JAX nor the rest of the package.
"""
